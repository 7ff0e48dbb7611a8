"""The judge of one connection: whatever the connection settles is settled when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from meshpy.engine.entries import Entries, Entry, first_met
from meshpy.engine.request import Request
from meshpy.engine.tiers import Walk
from meshpy.engine.verdict import Verdict

__all__ = ["ConnectionJudge"]

_NO_REQUEST = Verdict(False, "network", reason="the port speaks HTTP and there is no request to judge")
_BEFORE_TOKENS = ("mtls", "network", "baseline")


class ConnectionJudge:
    """The judge of all requests of one connection.

    Args:
        constant: the verdict, when no request can change it; always set on an opaque port.
        depends_on_headers: True when a verdict may not be kept for another request with the same method,
            path, host and JWT.
        depends_on_auth: True when a verdict may not be kept for a request with another JWT.
        custom: rules of CUSTOM policies: whoever they meet, their providers must be asked first.
    """

    __slots__ = (
        "_allow",
        "_audit",
        "_deny",
        "_fallback",
        "_pending",
        "_unmatched",
        "_walk",
        "constant",
        "custom",
        "depends_on_auth",
        "depends_on_headers",
    )

    def __init__(
        self,
        walk: Walk,
        fallback: Verdict,
        deny: Sequence[Entry],
        allow: Sequence[Entry],
        unmatched: Verdict | None,
        audit: Sequence[Entry],
        *,
        depends_on_headers: bool,
        depends_on_auth: bool,
        pending: ConnectionJudge | None = None,
        custom: Sequence[Entry] = (),
    ) -> None:
        self._walk = walk
        self._fallback = fallback
        self._deny = Entries(deny)
        self._allow = Entries(allow)
        self._unmatched = unmatched
        self._audit = tuple(audit)
        self._pending = pending
        self.custom = tuple(custom)
        self.depends_on_headers = depends_on_headers
        self.depends_on_auth = depends_on_auth
        self.constant: Verdict | None = None
        if self._is_settled():
            self.constant = self._judge(None)

    def _is_settled(self) -> bool:
        if self._walk.constant is None or any(entry.test for entry in self._audit):
            return False
        if self._pending is not None and self._pending.constant is None:
            return False
        network = self._walk.constant.verdict or self._fallback
        if not network.allowed:
            return True
        if self._deny.is_settled:
            return True
        if self.custom:
            return False
        return not self._deny and (not self._allow or self._allow.is_settled)

    @property
    def is_closed(self) -> bool:
        """Whether the stages before tokens refuse every request, so that none of it needs to be read."""
        constant = self.constant
        return constant is not None and not constant.allowed and constant.stage in _BEFORE_TOKENS

    def is_refused_early(self, request: Request) -> bool:
        """Whether the network stage refuses this request, before anybody is asked about it."""
        outcome = self._walk.constant or self._walk.decide(request)
        return not (outcome.verdict or self._fallback).allowed

    def asked(self, request: Request) -> tuple[Entry, ...]:
        """The rules whose providers decide on this request first: of each provider the first rule met."""
        found: dict[str, Entry] = {}
        for entry in self.custom:
            if entry.provider not in found and (entry.test is None or entry.test(request)):
                found[entry.provider] = entry
        return tuple(found.values())

    def judge(self, request: Request | None) -> Verdict:
        """Judge one request by all but the providers of CUSTOM; on an opaque port there is none."""
        if self.constant is not None:
            return self.constant
        return _NO_REQUEST if request is None else self._judge(request)

    def _judge(self, request: Request | None) -> Verdict:
        verdict = self._enforced(request)
        if self._pending is None:
            return verdict
        return replace(verdict, pending=self._pending.constant or self._pending._judge(request))

    def _enforced(self, request: Request | None) -> Verdict:
        outcome = self._walk.constant or self._walk.decide(request)
        verdict = outcome.verdict or self._fallback
        if verdict.allowed:
            if self._deny and (denied := self._deny.first(request)) is not None:
                verdict = denied.verdict
            elif self._unmatched is not None:
                allowed = self._allow.first(request)
                verdict = allowed.verdict if allowed is not None else self._unmatched
        if not self._audit and not outcome.logged:
            return verdict
        return self._with_audit(verdict, outcome.logged, request)

    def _with_audit(self, verdict: Verdict, logged: tuple[str, ...], request: Request | None) -> Verdict:
        seen = [entry.label for entry in self._audit if first_met((entry,), request)]
        return replace(verdict, audited=tuple(dict.fromkeys((*logged, *seen))))
