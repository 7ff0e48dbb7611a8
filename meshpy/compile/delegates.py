"""Delegation: a root VirtualService's rule replaced by the rules of the one it names (Istio `delegate`).

One level only. A delegate's match must be within the root's: `/a/b` under `/a`, never beside it. What the
delegate's rule does not say (rewrite, timeout, retries, fault, mirrors, CORS, headers) the root's says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from meshpy.errors import Place
from meshpy.model.match import Exact, HeaderMatch, Prefix, RequestMatch, StringMatch
from meshpy.model.route import DirectResponse
from meshpy.policy.kinds import (
    NO_HEADER_OPS,
    DelegateRef,
    HttpMatchDoc,
    HttpRouteDoc,
    Meta,
    VirtualServiceDoc,
)

__all__ = ["Delegation", "Lost", "delegates_of", "delegation_of", "expanded"]

Delegates = Mapping[tuple[str, str], VirtualServiceDoc]


@dataclass(frozen=True, slots=True)
class Lost:
    """A rule that delegation cannot place, and why."""

    place: Place
    what: str
    instead: str


@dataclass(frozen=True, slots=True)
class Delegation:
    """The outcome for one rule of a root."""

    routes: tuple[HttpRouteDoc, ...]
    lost: tuple[Lost, ...] = ()


def delegates_of(documents: Iterable[VirtualServiceDoc]) -> Delegates:
    """The documents that can be delegated to, by namespace and name."""
    return {(doc.meta.namespace, doc.meta.name): doc for doc in documents if not doc.hosts}


def expanded(documents: Iterable[VirtualServiceDoc]) -> tuple[VirtualServiceDoc, ...]:
    """The documents that have hosts, every delegation carried out."""
    found = tuple(documents)
    delegates = delegates_of(found)
    return tuple(
        replace(doc, http=tuple(_routes(doc, delegates))) if any(r.delegate for r in doc.http) else doc
        for doc in found
        if doc.hosts
    )


def _routes(document: VirtualServiceDoc, delegates: Delegates) -> Iterator[HttpRouteDoc]:
    """The rules; where delegation leaves nothing, requests get 404 and not the default route."""
    found = tuple(_carried_out(document, delegates))
    yield from found or (HttpRouteDoc(document.meta.place, answer=DirectResponse(404)),)


def _carried_out(document: VirtualServiceDoc, delegates: Delegates) -> Iterator[HttpRouteDoc]:
    for route in document.http:
        if route.delegate is None:
            yield route
        else:
            yield from delegation_of(document.meta, route, route.delegate, delegates).routes


def delegation_of(root: Meta, route: HttpRouteDoc, ref: DelegateRef, delegates: Delegates) -> Delegation:
    """Carry out one rule's delegation."""
    target = delegates.get((ref.namespace, ref.name))
    if target is None:
        what = f"{root.title}: no VirtualService without hosts is called {ref.namespace}/{ref.name}"
        instead = "write the name of a VirtualService that has http routes and no hosts"
        return Delegation((), (Lost(ref.place, what, instead),))
    if not target.is_exported_to(root.namespace):
        what = f"{root.title}: {target.meta.title} is not exported to {root.namespace}"
        return Delegation((), (Lost(ref.place, what, f"write exportTo: [{root.namespace}] there"),))
    routes: list[HttpRouteDoc] = []
    lost: list[Lost] = []
    for rule in target.http:
        if rule.delegate is not None:
            what = f"{target.meta.title} is delegated to by {root.title} and delegates itself"
            lost.append(Lost(rule.delegate.place, what, "write its routes: delegation has one level"))
            continue
        matches = _merged_matches(route.matches, rule.matches)
        if matches is None:
            what = f"{target.meta.title}: the rule's match is not within that of {root.title}"
            instead = f"narrow the match of {route.place}, or widen that one"
            lost.append(Lost(rule.place, what, instead))
            continue
        routes.append(_merged(route, rule, matches, target.meta))
    return Delegation(tuple(routes), tuple(lost))


def _merged(
    root: HttpRouteDoc, rule: HttpRouteDoc, matches: tuple[HttpMatchDoc, ...], origin: Meta
) -> HttpRouteDoc:
    silent = rule.request_headers == NO_HEADER_OPS and rule.response_headers == NO_HEADER_OPS
    forwards = not rule.answer
    return replace(
        rule,
        name=_joined(root.name, rule.name),
        matches=matches,
        rewrite=rule.rewrite or (root.rewrite if forwards else None),
        timeout_s=rule.timeout_s if rule.timeout_s is not None else root.timeout_s,
        retry=rule.retry or root.retry,
        fault=rule.fault or (root.fault if forwards else None),
        mirrors=rule.mirrors or (root.mirrors if forwards else ()),
        cors=rule.cors or root.cors,
        request_headers=root.request_headers if silent else rule.request_headers,
        response_headers=root.response_headers if silent else rule.response_headers,
        origin=origin,
    )


def _joined(root: str, leaf: str) -> str:
    return f"{root}-{leaf}" if root and leaf else root or leaf


def _merged_matches(
    root: tuple[HttpMatchDoc, ...], leaf: tuple[HttpMatchDoc, ...]
) -> tuple[HttpMatchDoc, ...] | None:
    """Every leaf under every root that it is within; None when one is within none."""
    if not root or not leaf:
        return root or leaf
    found: list[HttpMatchDoc] = []
    for below in leaf:
        above = [match for match in root if _is_within(match, below)]
        if not above:
            return None
        found += [_merged_match(match, below) for match in above]
    return tuple(found)


def _merged_match(root: HttpMatchDoc, leaf: HttpMatchDoc) -> HttpMatchDoc:
    above, below = root.request, leaf.request
    headers = {(match.name, match.invert): match for match in (*above.headers, *below.headers)}
    return HttpMatchDoc(
        RequestMatch(
            name=_joined(above.name, below.name),
            path=below.path or above.path,
            ignore_path_case=below.ignore_path_case or above.ignore_path_case,
            method=below.method or above.method,
            scheme=below.scheme or above.scheme,
            authority=below.authority or above.authority,
            port=below.port or above.port,
            headers=tuple(headers.values()),
            query={**above.query, **below.query},
        ),
        {**root.source_labels, **leaf.source_labels},
        leaf.source_namespace or root.source_namespace,
        leaf.gateways or root.gateways,
    )


def _is_within(root: HttpMatchDoc, leaf: HttpMatchDoc) -> bool:
    above, below = root.request, leaf.request
    pairs = [
        (above.path, below.path),
        (above.scheme, below.scheme),
        (above.method, below.method),
        (above.authority, below.authority),
        *((above.query[name], match) for name, match in below.query.items() if name in above.query),
        *_header_pairs(above.headers, below.headers),
    ]
    return (
        all(_is_string_within(outer, inner) for outer, inner in pairs)
        and (above.path is None or below.path is None or above.ignore_path_case == below.ignore_path_case)
        and (above.port is None or below.port is None or above.port == below.port)
        and (not root.gateways or set(leaf.gateways) <= set(root.gateways))
        and root.source_namespace in ("", leaf.source_namespace or root.source_namespace)
        and all(root.source_labels.get(k, v) == v for k, v in leaf.source_labels.items())
    )


def _header_pairs(
    above: tuple[HeaderMatch, ...], below: tuple[HeaderMatch, ...]
) -> Iterator[tuple[StringMatch | None, StringMatch | None]]:
    known = {(match.name, match.invert): match.match for match in above}
    for match in below:
        if (match.name, match.invert) in known:
            yield known[match.name, match.invert], match.match


def _is_string_within(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    """Istio: two that say the same sort of thing nest; an expression nests with nothing but itself."""
    if root is None or leaf is None or root == leaf:
        return True
    if isinstance(root, Prefix) and isinstance(leaf, Prefix | Exact):
        return leaf.value.startswith(root.value)
    return False
