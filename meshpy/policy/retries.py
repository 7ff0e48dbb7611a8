"""VirtualService `retries`. Source: Istio HTTPRetry; Envoy's `x-envoy-retry-on` words."""

from __future__ import annotations

from meshpy.model.resilience import DEFAULT_RETRY, RetryOn, RetryPolicy
from meshpy.policy.reader import Cursor, suggestion

__all__ = ["MAX_ATTEMPTS", "retry_policy"]

MAX_ATTEMPTS = 100
"""Above it a retry policy is an amplifier, not a remedy (THREATS 144)."""

_KNOWN = (
    "attempts",
    "perTryTimeout",
    "retryOn",
    "backoff",
    "retryIgnorePreviousHosts",
    "retryRemoteLocalities",
)
_MEANINGLESS = {
    "retriable-headers": "there is no field to list the headers in (Istio has none either)",
    "http3-post-connect-failure": "nothing here speaks HTTP/3",
}
_WORDS = tuple(word.value for word in RetryOn)


def retry_policy(cursor: Cursor) -> RetryPolicy:
    """Read `retries`; what is not written is Istio's default."""
    fields = cursor.fields(_KNOWN)
    attempts = fields.get("attempts")
    on, codes = DEFAULT_RETRY.on, DEFAULT_RETRY.status_codes
    conditions = fields.get("retryOn")
    if conditions is not None:
        on, codes = _conditions(conditions)
    return RetryPolicy(
        attempts=_attempts(attempts) if attempts is not None else DEFAULT_RETRY.attempts,
        per_try_timeout_s=fields.duration("perTryTimeout") or None,
        on=on,
        status_codes=codes,
        backoff_s=fields.duration("backoff", 0.001) or DEFAULT_RETRY.backoff_s,
        ignore_previous_hosts=fields.boolean("retryIgnorePreviousHosts", DEFAULT_RETRY.ignore_previous_hosts),
        remote_localities=fields.boolean("retryRemoteLocalities"),
    )


def _attempts(cursor: Cursor) -> int:
    value = cursor.integer(0, 2**31 - 1)
    if value > MAX_ATTEMPTS:
        what = f"{value} retries of one request would multiply an outage"
        cursor.problem(what, f"write at most {MAX_ATTEMPTS}; 2 or 3 is usual")
    return value


def _conditions(cursor: Cursor) -> tuple[frozenset[RetryOn], frozenset[int]]:
    """`retryOn`: words and status codes, separated by commas; a code implies retriable-status-codes."""
    text = str(cursor.integer(100, 599)) if _is_bare_code(cursor) else cursor.text()
    words: set[RetryOn] = set()
    codes: set[int] = set()
    for part in (piece.strip() for piece in text.split(",")):
        if part.isascii() and part.isdecimal() and 100 <= int(part[:4]) <= 599 and len(part) == 3:
            codes.add(int(part))
            words.add(RetryOn.RETRIABLE_STATUS_CODES)
        elif part in _WORDS:
            words.add(RetryOn(part))
        elif part in _MEANINGLESS:
            cursor.problem(f"the condition {part!r} never holds: {_MEANINGLESS[part]}", "remove it")
        else:
            cursor.problem(f"{part!r} is no retry condition", suggestion(part, (*_WORDS, "503")))
    return frozenset(words), frozenset(codes)


def _is_bare_code(cursor: Cursor) -> bool:
    """True for `retryOn: 503` without quotes, which can mean one thing only."""
    node = cursor.node
    return getattr(node, "plain", False) and str(getattr(node, "text", "")).isdecimal()
