"""The keys of all issuers that policies name: fetched, fetched again, and kept when that fails.

What was fetched last is on disk too: a control plane that starts while an issuer is down has its keys.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from control_plane.jwks.errors import KeysError
from meshpy.jose import JwksError, parse_jwks

__all__ = ["REFRESH_S", "IssuerKeys"]

REFRESH_S = 20 * 60.0
_RETRY_S = (2.0, 5.0, 15.0, 60.0, 300.0)
_POLL_S = 0.5
_MAX_ISSUERS = 200


class KeySource(Protocol):
    """Where keys come from."""

    async def fetch(self, uri: str, timeout_s: float) -> str:
        """The key set behind a URI.

        Raises:
            KeysError: the text says why.
        """


@dataclass(slots=True)
class _Issuer:
    """Args:
    fetched_at: seconds since the epoch; 0 when it never was.
    due_s: of the monotonic clock.
    """

    jwks: str = ""
    fetched_at: float = 0.0
    due_s: float = 0.0
    failures: int = 0
    error: str = ""
    is_busy: bool = False


class IssuerKeys:
    """Args:
    wanted: URI → seconds that a fetch may take, by the policies of now.
    changed: told the keys whenever they are others than before.
    file: where they are kept between two starts.
    """

    def __init__(
        self,
        source: KeySource,
        wanted: Callable[[], Mapping[str, float]],
        changed: Callable[[Mapping[str, str]], None],
        file: Path,
    ) -> None:
        self._source, self._wanted, self._changed, self._file = source, wanted, changed, file
        self._issuers: dict[str, _Issuer] = {}
        self._kept = _read(file)
        self._told: dict[str, str] = {}

    def start(self) -> None:
        """Tell what is kept, before anything is compiled."""
        self._follow(self._wanted())
        self._tell()

    async def run(self) -> None:
        """Fetch what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = self._wanted()
                self._follow(wanted)
                self._tell()
                now_s = time.monotonic()
                for uri, issuer in self._issuers.items():
                    if issuer.due_s <= now_s and not issuer.is_busy:
                        issuer.is_busy = True
                        group.create_task(self._fetch(uri, issuer, wanted[uri]))
                await asyncio.sleep(_POLL_S)

    def shown(self) -> list[dict[str, Any]]:
        """Every issuer as `/v1/status` shows it."""
        return [
            {
                "uri": uri,
                "keys": len(parse_jwks(issuer.jwks).keys) if issuer.jwks else 0,
                "fetched_at": datetime.fromtimestamp(issuer.fetched_at, UTC).isoformat(timespec="seconds")
                if issuer.fetched_at
                else "",
                "failures": issuer.failures,
                "error": issuer.error,
            }
            for uri, issuer in sorted(self._issuers.items())
        ]

    def _follow(self, wanted: Mapping[str, float]) -> None:
        for uri in [uri for uri in self._issuers if uri not in wanted]:
            del self._issuers[uri]
        for uri in sorted(wanted)[:_MAX_ISSUERS]:
            if uri not in self._issuers:
                jwks, fetched_at = self._kept.get(uri, ("", 0.0))
                self._issuers[uri] = _Issuer(jwks, fetched_at)

    async def _fetch(self, uri: str, issuer: _Issuer, timeout_s: float) -> None:
        try:
            jwks = await self._source.fetch(uri, timeout_s)
        except KeysError as error:
            delay_s = _RETRY_S[min(issuer.failures, len(_RETRY_S) - 1)]
            issuer.failures += 1
            issuer.error = str(error)[:300]
        else:
            delay_s = REFRESH_S
            issuer.failures, issuer.error = 0, ""
            issuer.jwks, issuer.fetched_at = jwks, time.time()
        finally:
            issuer.is_busy = False
        issuer.due_s = time.monotonic() + delay_s
        if not issuer.failures:
            self._tell()
            await asyncio.to_thread(self._keep)

    def _tell(self) -> None:
        keys = {uri: issuer.jwks for uri, issuer in self._issuers.items() if issuer.jwks}
        if keys != self._told:
            self._told = keys
            self._changed(keys)

    def _keep(self) -> None:
        """Write all that is known; a disk that is full costs the copy, not the keys."""
        known = {uri: [each.jwks, each.fetched_at] for uri, each in self._issuers.items() if each.jwks}
        draft = self._file.with_suffix(".new")
        with suppress(OSError):
            draft.write_text(json.dumps(known))
            os.replace(draft, self._file)


def _read(file: Path) -> dict[str, tuple[str, float]]:
    """What was kept; a file that is torn or not ours counts as none."""
    kept: dict[str, tuple[str, float]] = {}
    with suppress(OSError, ValueError):
        for uri, (jwks, fetched_at) in json.loads(file.read_text()).items():
            with suppress(JwksError, TypeError):
                parse_jwks(jwks)
                kept[uri] = (jwks, float(fetched_at))
    return kept
