"""Which signer the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from control_plane.errors import StartRefused
from control_plane.settings import Settings
from control_plane.signers.checked import tls_to
from control_plane.signers.signer import Signer
from control_plane.signers.step import StepSigner
from control_plane.signers.vault import VaultSigner

__all__ = ["signer_elsewhere"]

FORM = "vault:https://HOST:8200/v1/pki/sign/ROLE or step:https://HOST:9000#PROVISIONER"


def signer_elsewhere(settings: Settings) -> Signer | None:
    """The CA elsewhere; None when it is ours.

    Raises:
        StartRefused: it is not said whole, or in another form.
    """
    said = settings.ca_signer
    if not said:
        return None
    kind, _, url = said.partition(":")
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")  # an agent on this machine
    if kind not in ("vault", "step") or not parts.hostname or parts.scheme not in ("https", "http"):
        raise StartRefused(f"--ca-signer {said!r}: write {FORM}")
    if parts.scheme == "http" and not local:
        raise StartRefused(f"--ca-signer {said!r}: plain HTTP is for an agent on this machine; write https")
    is_whole = (
        parts.path.startswith("/v1/") if kind == "vault" else parts.path in ("", "/") and parts.fragment
    )
    if not is_whole:
        raise StartRefused(f"--ca-signer {said!r}: write {FORM}")
    secret = _needed(settings.ca_signer_secret_file, "--ca-signer-secret-file", "the token, or the JWK")
    roots = _needed(settings.ca_roots_file, "--ca-roots-file", "the roots that its certificates lead to")
    tls = tls_to(settings.ca_signer_tls_file)
    if kind == "vault":
        return VaultSigner(url, secret, settings.trust_domain, roots, tls)
    base = url.partition("#")[0]
    return StepSigner(base, parts.fragment, secret, settings.trust_domain, roots, tls)


def _needed(file: Path | None, option: str, what: str) -> Path:
    if file is None:
        raise StartRefused(f"--ca-signer needs {option}: {what}")
    return file
