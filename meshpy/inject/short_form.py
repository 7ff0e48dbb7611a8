"""Policies in the stack file: `x-mesh` and `meshpy.*` labels -> the documents of the long form.

At the root `default_deny`, `mtls`, `timeout`, `retries`, `hosts` and whole documents under `policies`; in a
service `allow`, `deny`, `timeout`, `retries` and `routes`. Values are checked here, where the user wrote
them; each document is text on the line of its key, so that what is found later points there too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshpy.errors import DocumentError, Place
from meshpy.inject.members import Member, Plan
from meshpy.inject.place_tree import cursor_at, scalar_cursor, source_of
from meshpy.inject.short_access import access_rules
from meshpy.inject.short_routes import HttpHost, http_routes
from meshpy.inject.words import POLICY_KEYS, pairs
from meshpy.policy import Document, load_documents
from meshpy.policy.reader import Cursor, Report

__all__ = ["MTLS_MODES", "policies_of_plan"]

MTLS_MODES = ("strict", "permissive")

_SECURITY = "security.istio.io/v1"
_NETWORKING = "networking.istio.io/v1"
_LABEL_KEYS = ("allow", "timeout", "retries")
_ROUTING = ("timeout", "retries", "routes")


def policies_of_plan(plan: Plan) -> tuple[Document, ...]:
    """Every policy that a stack file states, in the order of the file.

    Raises:
        DocumentError: a value that cannot be meant, at its place in the stack file.
    """
    work = _Work(plan, Report(plan.stack.file))
    documents = [*work.root(), *(doc for member in plan.meshed for doc in work.service(member))]
    documents += work.defaults()
    if work.report.problems:
        raise DocumentError(work.report.problems)
    return load_documents(documents).documents


@dataclass(slots=True)
class _Work:
    plan: Plan
    report: Report
    routed: set[str] = field(default_factory=set)

    def root(self) -> Iterator[Document]:
        deny = self._at("x-mesh", "default_deny")
        if deny is not None and deny.boolean():
            yield self._document(deny, "AuthorizationPolicy", "x-mesh-default-deny", {})
        mtls = self._at("x-mesh", "mtls")
        if mtls is not None:
            mode = mtls.choice(MTLS_MODES).upper()
            yield self._document(mtls, "PeerAuthentication", "x-mesh-mtls", {"mtls": {"mode": mode}})
        hosts = self._at("x-mesh", "hosts")
        for name, cursor in hosts.pairs() if hosts is not None else ():
            members = [m for m in self.plan.meshed if name.lower() in m.names]
            if not members:
                cursor.problem(f"no meshed service of the file is called {name!r}", "correct the name")
                continue
            given = cursor.fields(_ROUTING)
            yield from self._routes(cursor, name, members, {key: given.get(key) for key in _ROUTING})
        policies = self._at("x-mesh", "policies")
        for index, _ in enumerate(policies.items() if policies is not None else ()):
            text, line = source_of(self.plan.stack, ("x-mesh", "policies", index))
            yield Document("", self.plan.stack_name, "", text, self.report.file, Place(), line)

    def service(self, member: Member) -> Iterator[Document]:
        said = self._said(member)
        target = [{"group": "", "kind": "Service", "name": member.key}]
        for key in ("allow", "deny"):
            cursor = said.get(key)
            if cursor is not None:
                rules = access_rules(cursor, self.plan, denies=key == "deny")
                spec: dict[str, Any] = {"targetRefs": target, "action": key.upper()}
                if rules or key == "deny":
                    spec["rules"] = rules
                yield self._document(cursor, "AuthorizationPolicy", f"x-mesh-{member.key}-{key}", spec)
        routing = {key: said.get(key) for key in _ROUTING}
        place = next((cursor for cursor in routing.values() if cursor is not None), None)
        if place is not None:
            yield from self._routes(place, member.key, [member], routing)

    def defaults(self) -> Iterator[Document]:
        """The root's timeout and retries, for every host of the file that says nothing itself."""
        given = {key: self._at("x-mesh", key) for key in ("timeout", "retries")}
        place = next((cursor for cursor in given.values() if cursor is not None), None)
        if place is None:
            return
        named: dict[str, list[Member]] = {}
        for member in self.plan.meshed:
            for name in (member.key, *member.hosts):
                named.setdefault(name.lower(), []).append(member)
        for name, members in named.items():
            own = HttpHost.of(name, members)
            if name not in self.routed and own.ports and not self._is_alias(name, members):
                yield from self._routes(place, name, members, given)

    def _is_alias(self, name: str, members: list[Member]) -> bool:
        """A further name of one service: its routes hold there without being said."""
        return len(members) == 1 and name != members[0].key.lower()

    def _routes(
        self, at: Cursor, host: str, members: list[Member], given: Mapping[str, Cursor | None]
    ) -> Iterator[Document]:
        self.routed.add(host.lower())
        http = http_routes(at, HttpHost.of(host, members), self.plan, given, self._inherited(given))
        if http:
            spec = {"hosts": [host], "http": http}
            yield self._document(at, "VirtualService", f"x-mesh-{host}", spec)

    def _inherited(self, given: Mapping[str, Cursor | None]) -> dict[str, Cursor | None]:
        return {key: given.get(key) or self._at("x-mesh", key) for key in ("timeout", "retries")}

    def _at(self, *path: str) -> Cursor | None:
        return cursor_at(self.plan.stack, path, self.report)

    def _said(self, member: Member) -> dict[str, Cursor]:
        """`x-mesh` of the service before its deploy.labels, they before its labels."""
        stack, path = self.plan.stack, ("services", member.key)
        found: dict[str, Cursor] = {}
        for key in POLICY_KEYS:
            cursor = cursor_at(stack, (*path, "x-mesh", key), self.report)
            if cursor is not None and not cursor.null_refused():
                found[key] = cursor
        for below in (("deploy", "labels"), ("labels",)):
            for label, text, step in pairs(stack.get((*path, *below))):
                key = label.removeprefix("meshpy.")
                if not label.startswith("meshpy.") or key not in POLICY_KEYS:
                    continue
                cursor = scalar_cursor(stack, (*path, *below, step), text, self.report)
                if key not in _LABEL_KEYS:
                    cursor.problem(f"`{key}` is no text", f"write it below x-mesh of {member.key}")
                found.setdefault(key, cursor)
        return found

    def _document(self, at: Cursor, kind: str, name: str, spec: Mapping[str, Any]) -> Document:
        version = _NETWORKING if kind == "VirtualService" else _SECURITY
        text = json.dumps(
            {
                "apiVersion": version,
                "kind": kind,
                "metadata": {"name": name.lower(), "namespace": self.plan.stack_name},
                "spec": spec,
            }
        )
        place = at.place
        padded = " " * max(0, place.column - 1) + text
        return Document(kind, self.plan.stack_name, name, padded, self.report.file, place, max(1, place.line))
