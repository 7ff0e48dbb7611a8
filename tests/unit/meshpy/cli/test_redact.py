"""A report carries no secret: by key in JSON, by shape in any text."""

import pytest

from meshpy.cli.redact import redacted, scrubbed

SECRETS = [
    "Authorization: Bearer abc.def-ghi_jkl",
    'log: "authorization": "Basic dXNlcjpwYXNz"',
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "https://user:hunter2@registry.example/v2",
    "GET /reset?code=hunter2&x=1 HTTP/1.1",
    '"path":"/reset?code=hunter2","status":200',
    "docker swarm join --token SWMTKN-1-abcdef-123456 10.0.0.1:2377",
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nhunter2\n-----END EC PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\ncut off before its end: hunter2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_what_has_the_shape_of_a_secret_goes(text):
    """And what stands around it stays."""
    cleaned = scrubbed(f"before {text}\n")
    assert cleaned.startswith("before ")
    assert "REDACTED" in cleaned
    for secret in ("hunter2", "abc.def", "dXNlcjpwYXNz", "c2lnbmF0dXJl", "123456"):
        assert secret not in cleaned


def test_what_helps_stays():
    """Addresses, states, certificates and sentences with a question mark are no secrets."""
    text = "10.0.1.7:15443 STALE? -----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE----- spiffe://a/ns/b/sa/c\n"
    assert scrubbed(text) == text


def test_values_of_headers_and_secret_keys_go_and_their_names_stay():
    """Numbers are settings; a word like `tokens_issued` with a number is a count."""
    given = {
        "matches": [{"headers": {"x-user": {"exact": "alice"}, "x-n": {"present": True}}}],
        "join_token": "abc",
        "tokens_issued": 3,
        "jwks": '{"keys": []}',
        "request_headers": {"set": [["x-key", "hunter2"]]},
        "host": "api.shop",
    }
    cleaned = redacted(given)
    assert cleaned["matches"][0]["headers"]["x-user"] == {"exact": "REDACTED"}
    assert cleaned["matches"][0]["headers"]["x-n"] == {"present": True}
    assert (cleaned["join_token"], cleaned["tokens_issued"], cleaned["host"]) == ("REDACTED", 3, "api.shop")
    assert "hunter2" not in str(cleaned)
    assert given["join_token"] == "abc"
