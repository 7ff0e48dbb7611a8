"""Selectors -> sets of services, with the labels that Calico itself gives to what it selects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshpy.compile.hosts import Directory
from meshpy.model.authz import PeerMatch
from meshpy.model.inventory import Service
from meshpy.model.names import ServiceName
from meshpy.policy.kinds import NetworkPolicyDoc, NetworkSetDoc, PeerDoc, SelectorDoc
from meshpy.policy.selectors import All, Selector, matches, picks_global

__all__ = ["Selection", "namespace_labels", "workload_labels"]


def workload_labels(service: Service) -> dict[str, str]:
    """Labels of a workload as selectors see them; the user's own come first where they collide."""
    name = service.name
    return {
        "app": name.name,
        "service": name.name,
        "stack": name.namespace,
        **service.labels,
        "projectcalico.org/namespace": name.namespace,
        "projectcalico.org/name": name.name,
        "projectcalico.org/serviceaccount": name.name,
    }


def namespace_labels(namespace: str) -> dict[str, str]:
    """Labels of a stack as a namespace."""
    return {
        "name": namespace,
        "stack": namespace,
        "projectcalico.org/name": namespace,
        "kubernetes.io/metadata.name": namespace,
    }


def _nets(sets: Iterable[NetworkSetDoc]) -> tuple[str, ...]:
    return tuple(sorted({net for item in sets for net in item.nets}))


def _set_labels(item: NetworkSetDoc) -> dict[str, str]:
    given = {"projectcalico.org/name": item.meta.name}
    if item.meta.namespace:
        given["projectcalico.org/namespace"] = item.meta.namespace
    return {**item.labels, **given}


@dataclass(slots=True)
class Selection:
    """Resolves peers against an inventory; each peer once, whoever asks."""

    directory: Directory
    network_sets: tuple[NetworkSetDoc, ...] = ()
    _labels: dict[ServiceName, dict[str, str]] = field(default_factory=dict)
    answers: dict[tuple[PeerDoc, str], PeerMatch] = field(default_factory=dict)
    """Every answer of `peer`: what a compilation took from labels."""
    _stacks: dict[str, list[ServiceName]] = field(default_factory=dict)
    _by_stack: tuple[tuple[NetworkPolicyDoc, ...], dict[str, list[NetworkPolicyDoc]]] | None = None

    def labels_of(self, name: ServiceName) -> Mapping[str, str]:
        if name not in self._labels:
            self._labels[name] = workload_labels(self.directory.inventory.services[name])
        return self._labels[name]

    def applies_to(self, policy: NetworkPolicyDoc, name: ServiceName) -> bool:
        """True when the policy's selectors pick the workload."""
        if policy.meta.namespace and policy.meta.namespace != name.namespace:
            return False
        labels = self.labels_of(name)
        spaces, accounts = policy.namespace_selector, policy.account_selector
        return (
            matches(policy.selector.selector, labels)
            and (spaces is None or self._in_namespace(spaces.selector, name))
            and (accounts is None or matches(accounts.selector, labels))
        )

    def policies_of(
        self, policies: tuple[NetworkPolicyDoc, ...], name: ServiceName
    ) -> tuple[NetworkPolicyDoc, ...]:
        """Those that apply to a workload, in their order; asked of its own stack's and the global ones."""
        if self._by_stack is None or self._by_stack[0] is not policies:
            found: dict[str, list[NetworkPolicyDoc]] = {}
            stacks = self.directory.namespaces
            for policy in policies:
                own = policy.meta.namespace
                for stack in (own,) if own else stacks:
                    found.setdefault(stack, []).append(policy)
            self._by_stack = (policies, found)
        known = self._by_stack[1].get(name.namespace, ())
        return tuple(policy for policy in known if self.applies_to(policy, name))

    def in_stack(self, namespace: str) -> Iterable[ServiceName]:
        """The services of a stack, all without one."""
        services = self.directory.inventory.services
        if not namespace:
            return services
        if not self._stacks:
            for name in services:
                self._stacks.setdefault(name.namespace, []).append(name)
        return self._stacks.get(namespace, ())

    @staticmethod
    def _in_namespace(selector: Selector, name: ServiceName) -> bool:
        # global() holds for no service: each belongs to a stack
        return matches(selector, namespace_labels(name.namespace))

    def peer(self, peer: PeerDoc, namespace: str) -> PeerMatch:
        """Who a rule's `source` or `destination` means; `namespace` is the policy's, empty when global."""
        key = (peer, namespace)
        if key not in self.answers:
            self.answers[key] = self._resolve(peer, namespace)
        return self.answers[key]

    def _resolve(self, peer: PeerDoc, namespace: str) -> PeerMatch:
        if peer.is_outside:
            return PeerMatch(None, frozenset(self.directory.inventory.services), peer.nets, peer.not_nets)
        services: frozenset[ServiceName] | None = None
        if peer.service is not None:
            ref = peer.service
            host = self.directory.resolve(ref.name, ref.namespace or namespace or "default")
            services = frozenset(host.services) if host is not None else frozenset()
        elif self._narrows(peer, namespace):
            everyone = self.in_stack(namespace if peer.namespace_selector is None else "")
            services = frozenset(name for name in everyone if self._is_meant(peer, namespace, name))
        excluded = peer.not_selector
        not_services = None
        if excluded is not None:
            everyone = self.directory.inventory.services
            not_services = frozenset(n for n in everyone if matches(excluded.selector, self.labels_of(n)))
        return PeerMatch(
            services,
            not_services,
            peer.nets,
            peer.not_nets,
            self._meant_sets(peer, namespace),
            self._excluded_sets(peer),
            peer.domains,
        )

    def _meant_sets(self, peer: PeerDoc, namespace: str) -> tuple[str, ...]:
        """The addresses of the NetworkSets that the peer's selectors pick; they have no service account."""
        if not self._narrows(peer, namespace) or peer.account_names or peer.account_selector:
            return ()
        selector = peer.selector.selector if peer.selector is not None else All()
        return _nets(
            item
            for item in self.network_sets
            if peer.takes_sets
            and self._is_in_scope(item, peer.namespace_selector, namespace)
            and matches(selector, _set_labels(item))
        )

    def _excluded_sets(self, peer: PeerDoc) -> tuple[str, ...]:
        if peer.not_selector is None:
            return ()
        selector = peer.not_selector.selector
        return _nets(item for item in self.network_sets if matches(selector, _set_labels(item)))

    def _is_in_scope(self, item: NetworkSetDoc, spaces: SelectorDoc | None, namespace: str) -> bool:
        own = item.meta.namespace
        if spaces is None:
            return not namespace or own == namespace
        if not own:
            return picks_global(spaces.selector)
        return matches(spaces.selector, namespace_labels(own))

    @staticmethod
    def _narrows(peer: PeerDoc, namespace: str) -> bool:
        """False for `notSelector` alone in a global policy: it also holds for the world outside."""
        if namespace:
            return peer.picks_workloads
        return bool(peer.selector or peer.namespace_selector or peer.account_names or peer.account_selector)

    def _is_meant(self, peer: PeerDoc, namespace: str, name: ServiceName) -> bool:
        labels = self.labels_of(name)
        spaces, accounts = peer.namespace_selector, peer.account_selector
        if spaces is not None:
            if not self._in_namespace(spaces.selector, name):
                return False
        elif namespace and name.namespace != namespace:
            return False
        if peer.selector is not None and not matches(peer.selector.selector, labels):
            return False
        if peer.account_names and name.name not in peer.account_names:
            return False
        return accounts is None or matches(accounts.selector, labels)
