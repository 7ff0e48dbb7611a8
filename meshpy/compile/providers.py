"""Extension providers that the CUSTOM policies of a workload ask, and the clusters that lead to them."""

from __future__ import annotations

from dataclasses import replace

from meshpy.compile.attachment import attached_services
from meshpy.compile.clusters import ClusterTable
from meshpy.compile.findings import Notes, listed
from meshpy.compile.hosts import Directory
from meshpy.compile.selection import Selection
from meshpy.model.authz import Action, Authorization
from meshpy.model.endpoint import Protocol
from meshpy.model.ext_authz import CheckApi, ExtAuthz
from meshpy.policy import PolicySet
from meshpy.policy.authn_kinds import ProviderDoc
from meshpy.policy.kinds import AuthorizationPolicyDoc

__all__ = ["check_providers", "providers_for"]


def providers_for(
    auth: Authorization, policies: PolicySet, directory: Directory, table: ClusterTable
) -> tuple[ExtAuthz, ...]:
    """Those that the workload's policies name, their clusters noted in `table`.

    One that is not defined is left out: then its policies refuse what they match.
    """
    asked = {
        policy.provider for policy in auth.policies if policy.action is Action.CUSTOM and not policy.dry_run
    }
    found: list[ExtAuthz] = []
    for name, document in sorted(_defined(policies).items()):
        host = directory.resolve(document.host.host, document.namespace)
        if name in asked and host is not None:
            cluster, _ = table.add(host, document.port)
            found.append(
                replace(document.settings, cluster=cluster, authority=f"{host.label}:{document.port}")
            )
    return tuple(found)


def _defined(policies: PolicySet) -> dict[str, ProviderDoc]:
    return {
        provider.settings.name: provider for config in policies.mesh_configs for provider in config.providers
    }


def check_providers(policies: PolicySet, selection: Selection, notes: Notes) -> None:
    """Note providers that cannot be asked, and policies that name none that is defined."""
    defined = _defined(policies)
    for policy in policies.authorization_policies:
        if policy.action is not Action.CUSTOM:
            continue
        if policy.provider in defined:
            _check_reach(policy, defined[policy.provider], selection, notes)
        else:
            what = f"{policy.meta.title}: no extension provider is called {policy.provider!r}"
            instead = f"define it in a MeshConfig; {listed(list(defined))}"
            notes.error(policy.provider_place, what, instead)
    for provider in defined.values():
        _check(provider, selection.directory, notes)


def _check(provider: ProviderDoc, directory: Directory, notes: Notes) -> None:
    name, place = provider.settings.name, provider.host.place
    host = directory.resolve(provider.host.host, provider.namespace)
    if host is None:
        services = [f"{service.name}.{service.namespace}" for service in directory.inventory.services]
        what = f"provider {name}: no service is called {provider.host.host!r}"
        short = provider.host.host.removesuffix(".svc.cluster.local").removesuffix(".svc")
        namespace = short.rpartition(".")[2] if "." in short else provider.namespace
        is_known = namespace in directory.namespaces
        notes.missing(place, what, f"write SERVICE.STACK; {listed(services)}", expected=is_known)
        return
    protocol = host.ports.get(provider.port)
    if protocol is None:
        what = f"provider {name}: {host.label} has no port {provider.port}"
        notes.missing(place, what, listed([str(port) for port in host.ports]), expected=True)
    elif provider.settings.api is CheckApi.GRPC and protocol not in (Protocol.GRPC, Protocol.HTTP2):
        what = f"provider {name}: port {provider.port} of {host.label} is {protocol.value}, gRPC needs grpc"
        notes.error(place, what, f'declare it: meshpy.ports: "{provider.port}/grpc"')
    elif not protocol.is_http:
        what = f"provider {name}: port {provider.port} of {host.label} is {protocol.value}"
        notes.error(place, what, f'declare it: meshpy.ports: "{provider.port}/http"')


def _check_reach(
    policy: AuthorizationPolicyDoc, provider: ProviderDoc, selection: Selection, notes: Notes
) -> None:
    """Whoever shares no network with a provider is refused by its sidecar, and refuses in turn."""
    directory = selection.directory
    host = directory.resolve(provider.host.host, provider.namespace)
    for service in attached_services(policy, selection) if host is not None else ():
        if not set(directory.reachable(service)) & set(host.services if host is not None else ()):
            what = (
                f"{policy.meta.title}: {service.name} shares no network with provider {policy.provider}:"
                " it refuses to be asked unless a network policy allows it"
            )
            notes.warning(policy.provider_place, what, "put both on one network, or write a NetworkPolicy")
