"""Istio policies and the baseline -> the `Authorization` of one workload."""

from __future__ import annotations

from collections.abc import Iterable

from meshpy.compile.attachment import is_attached
from meshpy.compile.hosts import Directory, share_network
from meshpy.compile.network import stages_for
from meshpy.compile.selection import Selection
from meshpy.model.authz import Authorization, AuthorizationPolicy, AuthorizationRule, Condition, Source
from meshpy.model.inventory import Service
from meshpy.model.match import Exact, Prefix, StringMatch
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet
from meshpy.policy.kinds import AuthorizationPolicyDoc, AuthorizationRuleDoc, SourceDoc

__all__ = ["authorization_for", "open_ports", "plain_ports"]

_ISTIO_TRUST_DOMAIN = "cluster.local"


def authorization_for(
    service: Service, policies: PolicySet, selection: Selection, trust_domain: str
) -> Authorization:
    """Everything the workload's sidecar decides by."""
    name = service.name
    selected = [doc for doc in policies.authorization_policies if is_attached(doc, name, selection)]
    selected.sort(key=lambda doc: (doc.meta.namespace, doc.meta.name))
    directory = selection.directory
    network = stages_for(policies, selection, name)
    return Authorization(
        ingress=network.ingress,
        egress=network.egress,
        policies=tuple(_policy(doc, trust_domain) for doc in selected),
        baseline=frozenset(
            peer for peer in directory.reachable(service) if not directory.inventory.services[peer].exempt
        ),
        baseline_external=open_ports(service, directory),
        pending=network.pending,
        trusted_proxies=max((config.trusted_proxies for config in policies.mesh_configs), default=0),
    )


def open_ports(service: Service, directory: Directory) -> frozenset[int]:
    """Ports that callers without identity reached before: published ones, all where such a caller sits."""
    is_shared = _has_neighbours_outside(service, directory)
    return frozenset(port.number for port in service.ports if port.published or is_shared)


def plain_ports(service: Service, directory: Directory) -> frozenset[int]:
    """Those of them that are open in plaintext: a port published with TLS only to such neighbours."""
    is_shared = _has_neighbours_outside(service, directory)
    published = (port.number for port in service.ports if port.published and not port.secured)
    return open_ports(service, directory) if is_shared else frozenset(published)


def _has_neighbours_outside(service: Service, directory: Directory) -> bool:
    services = directory.inventory.services
    neighbours = (services[name] for name in directory.reachable(service))
    return any(peer.exempt and share_network(service, peer) for peer in neighbours)


def _policy(document: AuthorizationPolicyDoc, trust_domain: str) -> AuthorizationPolicy:
    rules = tuple(_rule(index, rule, trust_domain) for index, rule in enumerate(document.rules))
    return AuthorizationPolicy(
        document.meta.title, document.action, rules, document.dry_run, document.provider
    )


def _rule(index: int, rule: AuthorizationRuleDoc, trust_domain: str) -> AuthorizationRule:
    return AuthorizationRule(
        f"rules[{index}]",
        tuple(_source(source, trust_domain) for source in rule.sources),
        rule.operations,
        tuple(_condition(condition, trust_domain) for condition in rule.conditions),
    )


def _source(source: SourceDoc, trust_domain: str) -> Source:
    """Accounts and trust domains become principals; the reader saw to it that one form stands alone."""
    accounts = _accounts(source.service_accounts, trust_domain)
    not_accounts = _accounts(source.not_service_accounts, trust_domain)
    domains = _domains(source.trust_domains, trust_domain)
    not_domains = _domains(source.not_trust_domains, trust_domain)
    return Source(
        (*_principals(source.principals, trust_domain), *accounts, *domains),
        (*_principals(source.not_principals, trust_domain), *not_accounts, *not_domains),
        source.namespaces,
        source.not_namespaces,
        source.ip_blocks,
        source.not_ip_blocks,
        source.request_principals,
        source.not_request_principals,
        source.remote_ip_blocks,
        source.not_remote_ip_blocks,
    )


def _accounts(accounts: Iterable[tuple[str, str]], trust_domain: str) -> tuple[StringMatch, ...]:
    return tuple(Exact(trust_domain + ServiceName(*account).spiffe_path) for account in accounts)


def _domains(domains: Iterable[str], trust_domain: str) -> tuple[StringMatch, ...]:
    return tuple(
        Prefix(f"{trust_domain if domain == _ISTIO_TRUST_DOMAIN else domain}/") for domain in domains
    )


def _condition(condition: Condition, trust_domain: str) -> Condition:
    if condition.key != "source.principal":
        return condition
    values = _principals(condition.values, trust_domain)
    return Condition(condition.key, values, _principals(condition.not_values, trust_domain))


def _principals(principals: Iterable[StringMatch], trust_domain: str) -> tuple[StringMatch, ...]:
    return tuple(_localised(principal, trust_domain) for principal in principals)


def _localised(principal: StringMatch, trust_domain: str) -> StringMatch:
    """`cluster.local/…` is the mesh's own trust domain, whatever that is called."""
    if isinstance(principal, Exact | Prefix) and principal.value.startswith(_ISTIO_TRUST_DOMAIN + "/"):
        return type(principal)(trust_domain + principal.value[len(_ISTIO_TRUST_DOMAIN) :])
    return principal
