"""Findings on documents as they are written: breadth, exceptions, weights, prefixes, names, expiry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from meshpy.analysis.remarks import Remark
from meshpy.errors import Place
from meshpy.model.authz import Action, NetworkAction
from meshpy.model.match import Prefix, Present, StringMatch
from meshpy.policy import PolicySet
from meshpy.policy.kinds import (
    AuthorizationPolicyDoc,
    AuthorizationRuleDoc,
    NetworkPolicyDoc,
    PeerDoc,
    SourceDoc,
    VirtualServiceDoc,
)

__all__ = ["EXPIRES", "remarks_of_documents"]

EXPIRES = "meshpy.io/expires"

_OF_CALLER = ("source.", "remote.", "request.auth.")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def remarks_of_documents(policies: PolicySet, today: str) -> Iterator[Remark]:
    """Everything that one document shows by itself.

    Args:
        today: an ISO date.
    """
    for document in policies.authorization_policies:
        yield from _authorization(document)
        if document.dry_run:
            expires = document.meta.annotations.get(EXPIRES, "")
            yield from _expired(document.meta.title, document.meta.place, expires, today)
    for policy in policies.network_policies:
        yield from _network(policy)
        if policy.staged is not None:
            yield from _expired(policy.meta.title, policy.meta.place, policy.expires, today)
    for service in policies.virtual_services:
        yield from _virtual_service(service)
    for written in policies.documents:
        if not _NAME.fullmatch(written.name):
            subject = f"{written.kind} {written.namespace}/{written.name}".replace(" /", " ")
            what = f"the name {written.name!r} is none that Kubernetes takes (RFC 1123)"
            instead = "write lower-case letters, digits, - and ."
            yield Remark(written.place, "MP116", what, instead, subject)
    yield from _duplicates(policies.authorization_policies)


def _expired(title: str, place: Place, expires: str, today: str) -> Iterator[Remark]:
    if _DATE.match(expires) and expires[:10] < today:
        what = f"it was to be decided on by {expires[:10]} and is still staged"
        yield Remark(place, "MP117", what, "enforce it, extend its date, or remove it", title)


def _authorization(document: AuthorizationPolicyDoc) -> Iterator[Remark]:
    if document.action is not Action.ALLOW:
        return
    for index, rule in enumerate(document.rules):
        subject = f"{document.meta.title} rules[{index}]"
        if _only_exceptions(rule):
            what = "it allows everything but what it names"
            yield Remark(rule.place, "MP113", what, "name what is allowed", subject)
        elif _any_caller(rule):
            what = "it allows any caller, those without an identity among them"
            if rule.sources:
                what = "it allows any caller that has an identity"
            yield Remark(rule.place, "MP106", what, "name callers in from:, or narrow with when:", subject)
        for operation in rule.operations:
            yield from _prefixes(rule.place, operation.paths, subject)


def _any_caller(rule: AuthorizationRuleDoc) -> bool:
    if any(
        condition.key.startswith(("source.", "remote.", "request.auth.")) for condition in rule.conditions
    ):
        return False
    return not rule.sources or any(_is_anybody(source) for source in rule.sources)


def _is_anybody(source: SourceDoc) -> bool:
    named = [value for value in _values(source) if value]
    return bool(named) and all(
        isinstance(value, tuple) and any(isinstance(item, Present) for item in value) for value in named
    )


def _values(part: object) -> list[object]:
    return [getattr(part, name) for name in type(part).__dataclass_fields__ if name != "place"]  # type: ignore[attr-defined]


def _only_exceptions(rule: AuthorizationRuleDoc) -> bool:
    """True when something is said, and all that is said is what is not meant."""
    parts: list[object] = [*rule.sources, *rule.operations, *rule.conditions]
    positive = [name for part in parts for name in _said(part) if not name.startswith("not_")]
    return bool(parts) and not positive


def _said(part: object) -> list[str]:
    names = type(part).__dataclass_fields__  # type: ignore[attr-defined]
    return [name for name in names if name not in ("place", "key") and getattr(part, name)]


def _prefixes(place: Place, matches: Iterable[StringMatch], subject: str) -> Iterator[Remark]:
    for match in matches:
        if isinstance(match, Prefix) and not match.value.endswith("/"):
            what = f"{match.value}* also matches {match.value}-other and {match.value}x/y"
            yield Remark(place, "MP114", what, f"write {match.value} and {match.value}/*", subject)


def _network(policy: NetworkPolicyDoc) -> Iterator[Remark]:
    for index, rule in enumerate(policy.ingress or ()):
        if rule.action is NetworkAction.ALLOW and rule.is_tcp and _is_open(rule.source):
            subject = f"{policy.meta.title} ingress[{index}]"
            what = "it allows any caller, those without an identity among them"
            yield Remark(rule.place, "MP106", what, "name callers in source:", subject)


def _is_open(peer: PeerDoc) -> bool:
    """True when nothing but ports is said of the caller."""
    said = _said(peer)
    if "nets" in said and {"0.0.0.0/0", "::/0"} & set(peer.nets or ()):
        said.remove("nets")
    return all(name in ("ports", "not_ports") for name in said)


def _virtual_service(document: VirtualServiceDoc) -> Iterator[Remark]:
    routes = [(f"http[{i}]", item.place, item.destinations) for i, item in enumerate(document.http)]
    routes += [(f"tcp[{i}]", item.place, item.destinations) for i, item in enumerate(document.tcp)]
    for name, place, destinations in routes:
        yield from _weights(place, [item.weight for item in destinations], f"{document.meta.title} {name}")
    for index, item in enumerate(document.http):
        for match in item.matches:
            path = match.request.path
            if isinstance(path, Prefix) and path.value != "/":
                subject = f"{document.meta.title} http[{index}]"
                yield from _prefixes(item.place, (path,), subject)


def _weights(place: Place, weights: Sequence[int], subject: str) -> Iterator[Remark]:
    total = sum(weights)
    if len(weights) > 1 and total != 100:
        what = f"the weights {', '.join(map(str, weights))} add up to {total}: they are shares of that"
        yield Remark(place, "MP110", what, "write percents that add up to 100", subject)
    if len(weights) > 1 and 0 in weights:
        what = f"a destination with weight 0 gets nothing ({', '.join(map(str, weights))})"
        yield Remark(place, "MP110", what, "remove it, or give it a weight", subject, "info")


def _duplicates(documents: Iterable[AuthorizationPolicyDoc]) -> Iterator[Remark]:
    """Rules of policies with one action and selector that say the same."""
    seen: list[tuple[tuple[object, ...], str]] = []
    for document in documents:
        for index, rule in enumerate(document.rules):
            subject = f"{document.meta.title} rules[{index}]"
            said = (
                (document.action, document.dry_run, document.meta.namespace, document.selector),
                document.target_refs,
                tuple(tuple(_values(source)) for source in rule.sources),
                rule.operations,
                rule.conditions,
            )
            first = next((name for known, name in seen if known == said), None)
            if first is not None:
                yield Remark(rule.place, "MP104", f"{first} says the same", "remove one of them", subject)
            seen.append((said, subject))
