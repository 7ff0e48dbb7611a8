"""The operator API's client: JSON over HTTP(S), the server known by its SPIFFE id before a token is sent."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import ssl
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from certs.bundle import TrustBundle
from certs.errors import CertError
from certs.spiffe import SpiffeId
from certs.tls import verify_peer
from meshpy.errors import DocumentError, MeshpyError, Place, Problem
from meshpy.model.names import CONTROL_PLANE

__all__ = ["Answer", "ApiError", "Context", "Operator"]

DEFAULT_URL = "http://127.0.0.1:15014"
CONTEXT_FILE = Path("~/.config/meshpy/context.json")


class ApiError(MeshpyError):
    """The control plane cannot be reached, or refuses; `status` is 0 when it was not reached."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Context:
    """Where the control plane is, and what proves each side to the other.

    Args:
        ca_pem: the mesh's trust bundle; needed for https.
    """

    url: str = DEFAULT_URL
    token: str = ""
    ca_pem: str = ""
    trust_domain: str = "cluster.local"

    @classmethod
    def load(cls, env: Mapping[str, str] = os.environ) -> Context:
        """Read what `meshpy install` wrote; MESHPY_URL, _TOKEN, _CA_FILE, _TRUST_DOMAIN override it.

        Raises:
            MeshpyError: a file that is named cannot be read.
        """
        file = Path(env.get("MESHPY_CONTEXT", str(CONTEXT_FILE))).expanduser()
        try:
            saved = json.loads(file.read_text()) if file.exists() else {}
            ca_file = env.get("MESHPY_CA_FILE")
            ca_pem = Path(ca_file).read_text() if ca_file else saved.get("ca_pem", "")
        except (OSError, ValueError) as error:
            raise MeshpyError(f"the operator's context cannot be read: {error}") from error
        return cls(
            url=env.get("MESHPY_URL", saved.get("url", DEFAULT_URL)),
            token=env.get("MESHPY_TOKEN", saved.get("token", "")),
            ca_pem=ca_pem,
            trust_domain=env.get("MESHPY_TRUST_DOMAIN", saved.get("trust_domain", "cluster.local")),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def content(self) -> bytes:
        """The body without the coding that `Accept-Encoding` asked for."""
        coded = any((name.lower(), value) == ("content-encoding", "gzip") for name, value in self.headers)
        try:
            return gzip.decompress(self.body) if coded else self.body
        except (OSError, EOFError, zlib.error):
            raise ApiError(self.status, "the control plane's answer is cut off") from None


@dataclass(frozen=True, slots=True)
class Operator:
    """Calls on the operator API; a connection per call."""

    context: Context
    timeout_s: float = 30.0

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send one request and return its JSON answer.

        Raises:
            DocumentError: the documents sent are wrong, each problem with its place.
            ApiError: any other refusal, or no connection.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        answer = self.send(method, path, headers, data)
        return _read(answer.status, answer.content)

    def lines(self, path: str) -> Iterator[str]:
        """The lines of an answer that goes on, as they come; empty ones are left out.

        Raises:
            ApiError: it is refused, which is told before the first line is asked for; or no connection.
        """
        connection = self._connection()
        try:
            self._connect(connection)
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.context.token}"})
            answer = connection.getresponse()
            if answer.status >= 400:
                _read(answer.status, answer.read())
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | http.client.HTTPException):
                raise self._away(error) from error
            raise
        return self._rest(connection, answer)

    def _rest(
        self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> Iterator[str]:
        try:
            for line in answer:
                if text := line.decode("utf-8").strip():
                    yield text
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error
        finally:
            connection.close()

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send one request with the operator's token and return the answer as it came.

        Raises:
            ApiError: no connection, or the server is not the control plane.
        """
        connection = self._connection()
        try:
            self._connect(connection)
            signed = {**headers, "Authorization": f"Bearer {self.context.token}"}
            connection.request(method, path, body=body, headers=signed)
            answer = connection.getresponse()
            return Answer(answer.status, tuple(answer.getheaders()), answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error
        finally:
            connection.close()

    def _away(self, error: Exception) -> ApiError:
        why = getattr(error, "strerror", None) or str(error)
        where = "`meshpy install` or `meshpy demo` tells where it is, MESHPY_URL or the context names it"
        return ApiError(0, f"no control plane at {self.context.url}: {why}; {where}")

    def _connection(self) -> http.client.HTTPConnection:
        url = urlsplit(self.context.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ApiError(0, f"{self.context.url!r} is no URL of a control plane; set MESHPY_URL")
        port = url.port or 15014
        if url.scheme == "http":
            return http.client.HTTPConnection(url.hostname, port, timeout=self.timeout_s)
        if not self.context.ca_pem:
            raise ApiError(0, "https needs the mesh's trust bundle: set MESHPY_CA_FILE")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.check_hostname = False  # the SPIFFE id is checked instead, before anything is sent
        tls.load_verify_locations(cadata=self.context.ca_pem)
        return _NamedRoot(url.hostname, port, self.timeout_s, tls, self.context)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        connection.connect()
        if isinstance(connection.sock, ssl.SSLSocket):
            wanted = SpiffeId(self.context.trust_domain, CONTROL_PLANE.spiffe_path)
            try:
                verify_peer(
                    connection.sock,
                    self.context.trust_domain,
                    datetime.now(UTC),
                    expected=frozenset({wanted}),
                )
            except CertError as error:
                raise ApiError(0, f"{self.context.url} is not the control plane: {error}") from error


class _NamedRoot(http.client.HTTPSConnection):
    """Says by the server name which root it believes in: a context may be from before a rotation."""

    def __init__(self, host: str, port: int, timeout_s: float, tls: ssl.SSLContext, context: Context) -> None:
        super().__init__(host, port, timeout=timeout_s, context=tls)
        roots = TrustBundle.from_pem(context.trust_domain, context.ca_pem.encode())
        self._tls, self._server_name = tls, roots.label

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def _read(status: int, text: bytes) -> Any:
    try:
        answer = json.loads(text) if text else {}
    except ValueError:
        raise ApiError(status, f"the control plane answered {status} and no JSON") from None
    if status < 400:
        return answer
    problems = [
        Problem(
            Place(item.get("file", ""), item.get("line", 0), item.get("column", 0), item.get("key", "")),
            item.get("message", ""),
            item.get("instead", ""),
        )
        for item in answer.get("errors", [])
    ]
    if problems:
        raise DocumentError(problems)
    raise ApiError(status, f"{answer.get('title', 'refused')} ({status}): {answer.get('detail', '')}")
