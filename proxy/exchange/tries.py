"""The tries of an exchange: to one host after the other, until one answers or no more may be made."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from meshpy.model.resilience import ConsistentHash
from proxy.decide.affinity import key_of, made_cookie, wants_cookie
from proxy.decide.outlier import Reply as HostReply
from proxy.decide.retry import IDEMPOTENT, Outcome, backoff_s, is_retryable
from proxy.decide.tracing import next_attempt
from proxy.exchange.ends import break_off, drop_connection, end_try, fail, fail_overflow, judge_host
from proxy.net.connection import UpstreamConnection, UpstreamSide
from proxy.net.host import Host
from proxy.plan import Plan
from proxy.recent import Attempt

if TYPE_CHECKING:
    from proxy.exchange.exchange import Exchange

__all__ = [
    "REPLAY_LIMIT_BYTES",
    "can_replay",
    "is_policy_retry",
    "on_connect_failure",
    "on_connection",
    "on_try_timeout",
    "on_upstream_lost",
    "retry",
    "try_host",
    "try_next",
    "write",
]

REPLAY_LIMIT_BYTES: Final = 64 * 1024
"""A request whose content is longer is not kept for a retry (Linkerd's limit; Envoy keeps up to 1 MiB)."""
_SILENT_RETRIES: Final = 1


def write(exchange: Exchange, connection: UpstreamSide) -> None:
    """Send what was gathered, and the end when it is known."""
    out = exchange.out
    end = exchange.end
    if out:
        exchange.out = []
        exchange.out_bytes = 0
    if end is not None:
        exchange.is_end_sent = True
    connection.send(exchange, out, end)
    exchange.is_sent = True
    if exchange.replay and _is_sent_for_good(exchange, connection):
        exchange.replay = None


def _is_sent_for_good(exchange: Exchange, connection: UpstreamSide) -> bool:
    """Whether nothing that may still happen has the content sent again or copied: so it need not be kept.

    What was sent of a request that is not idempotent goes again only at the word of a peer that can say that
    it did nothing: a sidecar, HTTP/2, the status of a call of gRPC.
    """
    plan = exchange.plan
    return (
        type(connection) is UpstreamConnection
        and exchange.head.method not in IDEMPOTENT
        and exchange.grpc is None
        and plan is not None
        and not plan.refusal_is_trusted
        and plan.copies is None
    )


def try_next(exchange: Exchange) -> None:
    """Pick a host and send to it."""
    plan = exchange.plan
    assert plan is not None  # noqa: S101 - `flush` and `retry` have checked
    upstream = plan.upstream
    if upstream.active_requests > upstream.cluster.pool.max_requests:
        upstream.stats.overflow["requests"] += 1
        fail_overflow(exchange)
        return
    tried = exchange.tried if plan.retry.ignore_previous_hosts else ()
    if upstream.affinity is None:
        host = upstream.pick(tried, is_remote=exchange.attempts > 0 and plan.retry.remote_localities)
    else:
        host = upstream.pick(tried, _affinity_key(exchange, upstream.affinity))
    if host is None:
        fail(exchange, 503, "UH", "no_healthy_upstream", b"no healthy upstream", is_unsent=True)
        return
    try_host(exchange, plan, host)


def try_host(exchange: Exchange, plan: Plan, host: Host) -> None:
    """Send to a host that was picked, when it has a connection."""
    exchange.attempts += 1
    exchange.is_sent = exchange.is_end_sent = False
    exchange.tried_status = 0
    exchange.host = host
    host.active += 1
    exchange.is_in_try = True
    exchange.upstream_started_at = monotonic()
    if plan.retry.per_try_timeout_s is not None:
        exchange.try_timer = exchange.down.own.wheel.after(
            plan.retry.per_try_timeout_s, exchange.on_try_timeout
        )
    try:
        connection = host.acquire(exchange)
    except OverflowError:
        fail_overflow(exchange)
        return
    if connection is not None:
        on_connection(exchange, connection)
    else:
        exchange.is_waiting = True


def _affinity_key(exchange: Exchange, policy: ConsistentHash) -> int | None:
    """The key of consistent hashing; a client without the cookie that it asks for gets one."""
    down = exchange.down
    key = key_of(policy, exchange.head, down.connection.peer_address)
    if key is None and wants_cookie(policy):
        exchange.cookie, key = made_cookie(policy, down.own.ids.hex(32))
    return key


def on_connection(exchange: Exchange, connection: UpstreamSide) -> None:
    """A pooled or new connection is ours."""
    if exchange.is_waiting and exchange.plan is not None:
        exchange.plan.upstream.stats.waited(monotonic() - exchange.upstream_started_at)
    exchange.is_waiting = False
    exchange.connection = connection
    connection.begin(exchange, exchange.head.method)
    if exchange.attempts > 1 and exchange.replay is not None:
        exchange.out = list(exchange.replay)
    write(exchange, connection)
    exchange.down.resume_request()


def on_connect_failure(exchange: Exchange, reason: str) -> None:
    """No connection could be made; nothing was sent."""
    exchange.is_waiting = False
    exchange.last_failure = reason
    judge_host(exchange, HostReply.LOCAL_ORIGIN)
    _on_failed_try(exchange, Outcome.CONNECT_FAILURE, reason)


def on_upstream_lost(exchange: Exchange, reason: str, *, is_unsent: bool = False) -> None:
    """The connection ended before its response did.

    Args:
        is_unsent: the upstream says that it did nothing (HTTP/2: REFUSED_STREAM, GOAWAY).
    """
    connection, exchange.connection = exchange.connection, None
    if exchange.is_over:
        return
    exchange.last_failure = reason
    if is_unsent and not exchange.is_response_begun:
        _on_failed_try(exchange, Outcome.REFUSED, reason)
        return
    judge_host(exchange, HostReply.LOCAL_ORIGIN, is_sent=exchange.is_sent)
    if exchange.is_response_begun:
        break_off(exchange, "UC", f"upstream_reset_after_response_started{{{reason.replace(' ', '_')}}}")
        return
    is_stale = connection is not None and connection.is_reused
    _on_failed_try(exchange, Outcome.STALE if is_stale else Outcome.RESET, reason)


def on_try_timeout(exchange: Exchange) -> None:
    """The time of one try is over."""
    exchange.try_timer = None
    if exchange.is_over or exchange.is_response_begun:
        return
    exchange.last_failure = "per try timeout"
    judge_host(exchange, HostReply.LOCAL_ORIGIN, is_sent=exchange.is_sent)
    drop_connection(exchange)
    _on_failed_try(exchange, Outcome.PER_TRY_TIMEOUT, "per try timeout")


def _on_failed_try(exchange: Exchange, outcome: Outcome, reason: str) -> None:
    """Retry, or answer with what the last try came to."""
    end_try(exchange)
    plan = exchange.plan
    if plan is not None and can_replay(exchange):
        if _is_free(exchange, outcome):
            retry(exchange, is_silent=True)
            return
        if is_policy_retry(exchange, plan, Outcome.RESET if outcome is Outcome.STALE else outcome):
            retry(exchange)
            return
    flags = {Outcome.CONNECT_FAILURE: "UF", Outcome.REFUSED: "UF", Outcome.PER_TRY_TIMEOUT: "UT"}.get(
        outcome, "UC"
    )
    if exchange.attempts > 1 and plan is not None and exchange.attempts > plan.retry.attempts:
        flags += ",URX"
    if outcome is Outcome.PER_TRY_TIMEOUT:
        fail(exchange, 504, flags, "upstream_per_try_timeout", b"upstream request timeout")
        return
    body = b"upstream connect error or disconnect/reset before headers. reset reason: " + reason.encode()
    details = f"upstream_reset_before_response_started{{{reason}}}"
    is_unsent = outcome in (Outcome.CONNECT_FAILURE, Outcome.REFUSED)
    fail(exchange, 503, flags, details, body, is_unsent=is_unsent)


def _is_free(exchange: Exchange, outcome: Outcome) -> bool:
    """Whether one more try is neither the policy's affair nor the budget's.

    It is made on a fresh connection, so that each kept one that a server has closed costs one such try: more
    than there are connections an outage cannot add.
    """
    return (
        outcome is Outcome.STALE
        and exchange.head.method in IDEMPOTENT
        and exchange.silent_retries < _SILENT_RETRIES
    )


def is_policy_retry(exchange: Exchange, plan: Plan, outcome: Outcome) -> bool:
    """Whether the route's policy wants one more try, and may have it."""
    policy = plan.retry
    if exchange.attempts - exchange.silent_retries > policy.attempts:
        return False
    if not is_retryable(policy, outcome, exchange.head.method, is_sent=exchange.is_sent):
        return False
    is_sent = exchange.is_sent and outcome is not Outcome.REFUSED
    return plan.upstream.may_retry(is_active=exchange.is_retry_active, is_sent=is_sent)


def can_replay(exchange: Exchange) -> bool:
    """Whether all of the request's content so far is kept."""
    return exchange.replay is not None or not exchange.replay_bytes


def retry(exchange: Exchange, *, is_silent: bool = False, pause_s: float = 0.0) -> None:
    """Try once more, after a back-off.

    Args:
        is_silent: at once; the pooled connection was dead and the policy has no say.
        pause_s: what the upstream asks for on top.
    """
    plan = exchange.plan
    assert plan is not None  # noqa: S101 - only an exchange with a plan has tries
    if exchange.host is not None:
        exchange.tried.append(exchange.host)
    if exchange.attempt_log is not None:
        _note_attempt(exchange)
    exchange.out = []
    exchange.out_bytes = 0
    if is_silent:
        exchange.silent_retries += 1
        try_next(exchange)
        return
    if not exchange.is_retry_active:
        exchange.is_retry_active = True
        plan.upstream.active_retries += 1
    plan.upstream.begin_retry()
    exchange.is_waiting = True
    number = exchange.attempts - exchange.silent_retries
    pause_s += backoff_s(plan.retry, number, exchange.down.own.draw())
    exchange.down.own.wheel.after(pause_s, lambda: _try_again(exchange))


def _note_attempt(exchange: Exchange) -> None:
    """Write down the try that was given up; the next one is another span of the trace."""
    host, reason = exchange.host, exchange.last_failure
    span_id = exchange.trace[36:52].decode("latin-1")
    name = host.name if host is not None else ""
    attempt = Attempt(span_id, exchange.upstream_started_at, monotonic(), exchange.tried_status, reason, name)
    exchange.attempt_log = (*(exchange.attempt_log or ()), attempt)
    exchange.trace, exchange.extra = next_attempt(exchange.trace, exchange.down.own.ids, exchange.extra)


def _try_again(exchange: Exchange) -> None:
    exchange.is_waiting = False
    if not exchange.is_over:
        try_next(exchange)
