"""JSON Web Tokens and key sets (RFC 7515, 7517, 7518, 7519, 8037), verified with public keys alone.

`keys` reads a JWKS, `token` a compact JWS. Symmetric algorithms and `none` do not exist here, so a public key
can never be taken for a shared secret; what a token's header says of keys (`jwk`, `jku`, `x5u`, `x5c`) is not
read at all. JSON is read strictly: a name written twice, NaN, or anything but an object is refused.
"""

from meshpy.jose.errors import JwksError, TokenError
from meshpy.jose.keys import KeySet, VerificationKey, parse_jwks
from meshpy.jose.token import MAX_TOKEN_CHARS, Token, read_token, verify

__all__ = [
    "MAX_TOKEN_CHARS",
    "JwksError",
    "KeySet",
    "Token",
    "TokenError",
    "VerificationKey",
    "parse_jwks",
    "read_token",
    "verify",
]
