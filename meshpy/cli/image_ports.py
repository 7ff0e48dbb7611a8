"""Which ports an image exposes: asked of the local engine, then of its registry (OCI distribution API)."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from meshpy.cli.docker import Docker, DockerError
from meshpy.errors import MeshpyError

__all__ = ["ImageRef", "ImageUnknownError", "exposed_ports"]

ENGINE_S = 10.0
REGISTRY_S = 5.0
MAX_BYTES = 4 << 20
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class ImageUnknownError(MeshpyError):
    """Neither the engine nor the registry could be asked, or they do not have it."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """`docker.io/library/redis:7` in its parts."""

    registry: str
    repository: str
    reference: str

    @classmethod
    def parse(cls, image: str) -> ImageRef:
        name, at, digest = image.partition("@")
        first, slash, rest = name.partition("/")
        has_registry = slash and ("." in first or ":" in first or first == "localhost")
        registry, path = (first, rest) if has_registry else ("registry-1.docker.io", name)
        path, colon, tag = path.partition(":")
        if not has_registry and "/" not in path:
            path = f"library/{path}"
        return cls(registry, path, digest if at else tag if colon else "latest")

    @property
    def url(self) -> str:
        """Plain HTTP on this machine alone, as docker has it."""
        host = self.registry.partition(":")[0]
        scheme = "http" if host in ("localhost", "127.0.0.1") else "https"
        return f"{scheme}://{self.registry}/v2/{quote(self.repository)}"


def exposed_ports(image: str) -> tuple[tuple[str, ...], str]:
    """The ports, `8080/tcp` and the like, and who said so.

    Raises:
        ImageUnknownError: nobody could say; the message has what each answered.
    """
    try:
        told = Docker(timeout_s=ENGINE_S).run(
            "image", "inspect", "--format", "{{json .Config.ExposedPorts}}", image
        )
        return tuple(json.loads(told) or ()), "the engine"
    except DockerError as error:
        engine = str(error).splitlines()[-1]
    try:
        config = _config(ImageRef.parse(image))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageUnknownError(f"the engine: {engine}; the registry: {_said(error)}") from error
    return tuple((config.get("config") or {}).get("ExposedPorts") or ()), "its registry"


def _said(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({error.reason})"
    if isinstance(error, TimeoutError):
        return f"no answer within {REGISTRY_S:.0f} s"
    return f"{type(error).__name__}: {error}"


def _config(ref: ImageRef) -> Mapping[str, Any]:
    token = ""
    try:
        manifest = _get(f"{ref.url}/manifests/{ref.reference}", token)
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        token = _token(error.headers.get("WWW-Authenticate", ""))
        manifest = _get(f"{ref.url}/manifests/{ref.reference}", token)
    if "manifests" in manifest:  # one of several platforms: they expose the same
        chosen = next((m for m in manifest["manifests"] if _is_linux(m)), manifest["manifests"][0])
        manifest = _get(f"{ref.url}/manifests/{chosen['digest']}", token)
    return _get(f"{ref.url}/blobs/{manifest['config']['digest']}", token)


def _is_linux(manifest: Mapping[str, Any]) -> bool:
    return (manifest.get("platform") or {}).get("os") == "linux"


def _token(challenge: str) -> str:
    """An anonymous token, as the registry's 401 says to get one."""
    asked = dict(CHALLENGE.findall(challenge))
    realm = asked.pop("realm", "")
    if not challenge.lower().startswith("bearer ") or not realm.startswith("https://"):
        raise ValueError("it wants a login")
    answer = _get(f"{realm}?{urlencode(asked)}", "")
    return str(answer.get("token") or answer["access_token"])


def _get(url: str, token: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Accept": ", ".join((*INDEXES, *MANIFESTS))})  # noqa: S310
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=REGISTRY_S) as answer:  # noqa: S310 - http(s) by construction
        value: dict[str, Any] = json.loads(answer.read(MAX_BYTES))
    return value
