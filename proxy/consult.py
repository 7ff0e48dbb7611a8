"""A request that waits for its providers (CUSTOM): its content gathered, each asked in turn, then decided on.

Only requests that a CUSTOM rule met come here. What was gathered stays in the exchange, to be forwarded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshpy.engine.entries import Entry
from meshpy.engine.request import Request
from meshpy.model.ext_authz import CheckApi
from proxy.decide.headers import FoldedOps
from proxy.denial import DENIED_BY
from proxy.ext_authz import (
    MAX_ANSWER_BYTES,
    Allowed,
    Denied,
    Failed,
    Provider,
    judge_http,
    question,
    with_answers,
    with_twins,
)
from proxy.ext_authz_grpc import Parties, grpc_question, judge_grpc
from proxy.http.events import Framing, Header, Headers
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.response_head import parse_response_head
from proxy.plan import Plan, Reply
from proxy.subrequest import Answer, Query
from proxy.telemetry import Telemetry

if TYPE_CHECKING:
    from proxy.exchange import Exchange

__all__ = ["Consultation"]

_CONTINUE = parse_response_head(b"HTTP/1.1 100 Continue\r\n\r\n", "POST")

Decide = Callable[[Plan, Request], Plan | Reply]
GoOn = Callable[[Plan | Reply], None]


class Consultation:
    """What `decide` returns for such a request.

    Args:
        entries: the rules that were met, one for each provider.
        fields: of the request as the app would receive it.
        decide: the stages that follow: DENY, ALLOW, rate limits.
        is_named: the caller belongs to the mesh and may read policy names.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        providers: Mapping[str, Provider],
        fields: Headers,
        request: Request,
        plan: Plan,
        decide: Decide,
        telemetry: Telemetry,
        parties: Parties,
        *,
        is_named: bool,
    ) -> None:
        self._left = list(entries)
        self._providers = providers
        self._fields = fields
        self._request = request
        self._plan = plan
        self._decide = decide
        self._telemetry = telemetry
        self._parties = parties
        self._is_named = is_named
        self._go_on: GoOn = lambda _decision: None
        self._is_asking = False
        bodies = [
            found.settings.body
            for entry in entries
            if (found := providers.get(entry.provider)) is not None and found.settings.body is not None
        ]
        self._gather_bytes = max((body.max_bytes for body in bodies), default=0)

    def start(self, exchange: Exchange, go_on: GoOn) -> None:
        """Gather what the providers want to see, then ask.

        Args:
            go_on: told the decision, once, unless the client has gone.
        """
        self._go_on = go_on
        exchange.is_waiting = True
        if not self._gather_bytes or _is_empty(exchange.head):
            self._ask(exchange)
            return
        limits = [
            (entry, found.settings.body.max_bytes)
            for entry in self._left
            if (found := self._providers.get(entry.provider)) is not None
            and found.settings.body is not None
            and not found.settings.body.allow_partial
        ]
        for entry, most in limits:
            if exchange.head.content_length > most:
                self._too_large(exchange, entry)
                return
        if exchange.head.expect_continue and isinstance(_CONTINUE, ResponseHead):
            exchange.down.send_interim(_CONTINUE)
            exchange.down.flush_response()
            ops = self._plan.request_ops
            self._plan = replace(
                self._plan, request_ops=FoldedOps(ops.drop | {b"expect"}, ops.extra, ops.host)
            )
        exchange.gather = lambda: self._on_content(exchange)
        self._on_content(exchange)

    def _on_content(self, exchange: Exchange) -> None:
        if self._is_asking or exchange.is_over:
            return
        if exchange.is_request_complete or exchange.out_bytes > self._gather_bytes:
            self._ask(exchange)
        else:
            exchange.down.resume_request()

    def _ask(self, exchange: Exchange) -> None:
        """Ask the next provider."""
        self._is_asking = True
        entry = self._left.pop(0)
        provider = self._providers.get(entry.provider)
        if provider is None:
            self._refuse(exchange, entry, 403, "the provider is not defined")
            return
        body, is_partial = self._body_for(exchange, provider)
        if body is None and is_partial:
            self._too_large(exchange, entry)
            return
        asked = self._question(exchange, provider, body, is_partial=is_partial)
        if isinstance(asked, Failed):
            self._judge(exchange, entry, provider, asked)
            return
        head, content = asked
        Query(
            provider.upstream,
            head,
            content,
            timeout_s=provider.settings.timeout_s,
            max_bytes=MAX_ANSWER_BYTES,
            done=lambda answer: self._on_answer(exchange, entry, provider, answer),
        ).start()

    def _question(
        self, exchange: Exchange, provider: Provider, body: bytes | None, *, is_partial: bool
    ) -> tuple[RequestHead, bytes] | Failed:
        fields = self._sent_fields()
        if provider.settings.api is CheckApi.GRPC:
            return grpc_question(provider, exchange.head, fields, body, self._parties, is_partial=is_partial)
        head = question(provider, exchange.head, fields, body, is_partial=is_partial)
        return head if isinstance(head, Failed) else (head, body or b"")

    def _body_for(self, exchange: Exchange, provider: Provider) -> tuple[bytes | None, bool]:
        """The content that this provider is shown, and whether it is cut; (None, True): it is too large."""
        check = provider.settings.body
        if check is None:
            return None, False
        if exchange.out_bytes <= check.max_bytes and exchange.is_request_complete:
            return b"".join(exchange.out), False
        if exchange.out_bytes <= check.max_bytes and _is_empty(exchange.head):
            return b"", False
        if not check.allow_partial:
            return None, True
        return b"".join(exchange.out)[: check.max_bytes], True

    def _sent_fields(self) -> Headers:
        ops = self._plan.request_ops
        kept = [pair for pair in self._fields if pair[0] not in ops.drop]
        return [*kept, *((name.lower(), value) for name, value in ops.extra)]

    def _on_answer(self, exchange: Exchange, entry: Entry, provider: Provider, answer: Answer | str) -> None:
        if not exchange.is_over:
            is_grpc = provider.settings.api is CheckApi.GRPC
            outcome = judge_grpc(answer) if is_grpc else judge_http(provider, answer)
            self._judge(exchange, entry, provider, outcome)

    def _judge(
        self, exchange: Exchange, entry: Entry, provider: Provider, outcome: Allowed | Denied | Failed
    ) -> None:
        verdict = entry.verdict
        match outcome:
            case Allowed():
                self._telemetry.verdict("custom", verdict.policy, verdict.rule, allowed=True)
                self._take(outcome)
            case Denied():
                self._end(exchange, self._denial(entry, outcome))
                return
            case Failed(reason):
                if not provider.settings.fail_open:
                    self._refuse(exchange, entry, provider.settings.error_status, reason)
                    return
                self._telemetry.verdict("custom", verdict.policy, "fail-open", allowed=True)
        if self._left:
            self._ask(exchange)
        else:
            self._end(exchange, self._decide(self._plan, self._request))

    def _take(self, allowed: Allowed) -> None:
        """Change the request as the answer says; the stages that follow see it like that."""
        plan = self._plan
        response = plan.response_ops
        if allowed.drop:
            allowed = with_twins(allowed, self._request.headers)
        if allowed.to_client:
            names = frozenset(name for name, _ in allowed.to_client)
            response = FoldedOps(response.drop | names, (*response.extra, *allowed.to_client), response.host)
        if allowed.drop or allowed.add or allowed.to_client:
            ops = with_answers(plan.request_ops, allowed)
            self._plan = replace(plan, request_ops=ops, response_ops=response)
            self._request = _changed(self._request, allowed)

    def _refuse(self, exchange: Exchange, entry: Entry, status: int, reason: str) -> None:
        body = b"External authorization failed\n"
        if self._is_named:
            body = f"External authorization failed: {entry.provider}: {reason}\n".encode()
        text = reason.replace(" ", "_")
        self._end(exchange, self._reply(entry, status, f"ext_authz_error{{{text}}}", body, ()))

    def _too_large(self, exchange: Exchange, entry: Entry) -> None:
        body = b"Payload Too Large\n"
        self._end(exchange, self._reply(entry, 413, "request_payload_too_large", body, ()))

    def _denial(self, entry: Entry, denied: Denied) -> Reply:
        reply = self._reply(entry, denied.status, "ext_authz_denied", denied.body, denied.headers)
        return replace(reply, content_type=denied.content_type)

    def _reply(
        self, entry: Entry, status: int, details: str, body: bytes, headers: tuple[Header, ...]
    ) -> Reply:
        verdict = entry.verdict
        if self._is_named:
            headers = (*headers, (DENIED_BY, entry.label.encode("latin-1", "replace")))
        return Reply(
            status,
            "UAEX",
            details,
            body,
            headers,
            self._plan.service,
            policy=verdict.policy,
            rule=verdict.rule,
            stage="custom",
        )

    def _end(self, exchange: Exchange, decision: Plan | Reply) -> None:
        exchange.gather = None
        self._go_on(decision)


def _is_empty(head: RequestHead) -> bool:
    return head.framing is Framing.NONE or (head.framing is Framing.LENGTH and not head.content_length)


def _changed(request: Request, allowed: Allowed) -> Request:
    dropped = {name.decode("latin-1") for name in allowed.drop}
    headers = {name: list(values) for name, values in request.headers.items() if name not in dropped}
    for name, value in allowed.add:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return Request(
        request.method,
        request.path,
        request.query,
        request.authority,
        request.scheme,
        headers,
        request.auth,
    )
