"""Calico tiers, Istio policies and the baseline of one workload."""

from __future__ import annotations

import pytest

from meshpy.compile import compile_mesh
from meshpy.model.authz import Authorization, NetworkAction, PeerMatch, PortRange
from meshpy.model.inventory import AppAddress
from meshpy.model.match import Exact, Prefix, Suffix
from meshpy.model.names import ServiceName
from tests.helpers.policies import BRIEF, document, loaded, service, shop

ALL = frozenset(shop().services)


def names(*found: str) -> frozenset[ServiceName]:
    return frozenset(ServiceName.parse(name, "shop") for name in found)


def authorization(workload: str, *texts: str, trust_domain: str = "cluster.local") -> Authorization:
    cron = service(
        "cron", exempt="docker.sock", endpoints=(), app=AppAddress(), networks=frozenset({"shop_data"})
    )
    mesh = compile_mesh(shop(cron), loaded(*texts), trust_domain=trust_domain, revision=1)
    return mesh[ServiceName.parse(workload, "shop")].authorization


def peer(entity: str, kind: str = "NetworkPolicy") -> PeerMatch:
    """What an ingress rule's `source` means for api."""
    text = document(kind, f"selector: app == 'api'\ningress: [{{action: Allow, source: {entity}}}]")
    return authorization("api", text).ingress[0].policies[0].rules[0].peer


def test_the_baseline_is_who_shared_a_network() -> None:
    assert authorization("report").baseline == names("redis", "report")
    assert authorization("blog/web").baseline == names("blog/web")


def test_callers_without_identity_reach_published_ports_and_what_exempt_neighbours_reached() -> None:
    assert authorization("web").baseline_external == {80}
    assert authorization("api").baseline_external == frozenset()
    assert authorization("redis").baseline_external == {6379}


def test_deny_all_of_the_brief_denies_in_both_directions_in_its_namespace_only() -> None:
    text = BRIEF.replace("namespace: default", "namespace: shop")
    found = authorization("api", text)
    for tiers, name in ((found.ingress, "ingress[0]"), (found.egress, "egress[0]")):
        (policy,) = tiers[0].policies
        assert (tiers[0].name, policy.name) == ("default", "NetworkPolicy shop/deny-all")
        assert [(rule.name, rule.action) for rule in policy.rules] == [(name, NetworkAction.DENY)]
        assert policy.rules[0].peer == PeerMatch()
    assert authorization("blog/web", text).ingress == ()


@pytest.mark.parametrize(
    ("entity", "kind", "services", "not_services"),
    [
        ("{}", "NetworkPolicy", None, None),
        ("{selector: all()}", "NetworkPolicy", ALL - names("blog/web") | names("cron"), None),
        ("{selector: all()}", "GlobalNetworkPolicy", ALL | names("cron"), None),
        ("{selector: \"app == 'web'\"}", "NetworkPolicy", names("web"), None),
        ("{selector: \"app == 'web'\"}", "GlobalNetworkPolicy", names("web", "blog/web"), None),
        (
            "{selector: \"app == 'web'\", namespaceSelector: all()}",
            "NetworkPolicy",
            names("web", "blog/web"),
            None,
        ),
        (
            "{namespaceSelector: \"projectcalico.org/name == 'blog'\"}",
            "NetworkPolicy",
            names("blog/web"),
            None,
        ),
        ("{namespaceSelector: global()}", "NetworkPolicy", frozenset(), None),
        (
            "{selector: \"projectcalico.org/namespace == 'blog'\"}",
            "GlobalNetworkPolicy",
            names("blog/web"),
            None,
        ),
        ("{serviceAccounts: {names: [web, redis]}}", "NetworkPolicy", names("web", "redis"), None),
        ("{serviceAccounts: {selector: \"tier == 'back'\"}}", "NetworkPolicy", names("api"), None),
        ("{services: {name: catalog}}", "NetworkPolicy", names("catalog-v1", "catalog-v2"), None),
        ("{selector: has(version)}", "NetworkPolicy", names("catalog-v1", "catalog-v2"), None),
        ("{notSelector: has(version)}", "GlobalNetworkPolicy", None, names("catalog-v1", "catalog-v2")),
    ],
)
def test_a_peer_is_a_set_of_services(
    entity: str,
    kind: str,
    services: frozenset[ServiceName] | None,
    not_services: frozenset[ServiceName] | None,
) -> None:
    assert peer(entity, kind) == PeerMatch(services, not_services)


def test_not_selector_in_a_namespaced_policy_stays_in_the_namespace() -> None:
    found = peer("{notSelector: has(version)}")
    assert found.services == ALL - names("blog/web") | names("cron")
    assert found.not_services == names("catalog-v1", "catalog-v2")


def test_nets_stay_nets() -> None:
    assert peer("{nets: [10.1.2.3/8], notNets: [10.0.0.1]}") == PeerMatch(
        nets=("10.0.0.0/8",), not_nets=("10.0.0.1/32",)
    )


def test_the_own_side_of_a_rule_is_settled() -> None:
    text = document(
        "NetworkPolicy",
        """
        selector: all()
        ingress:
        - {action: Allow, destination: {selector: "app == 'api'"}}
        - {action: Allow, destination: {notSelector: "app == 'api'"}}
        - {action: Allow, protocol: UDP}
        - {action: Deny, protocol: TCP, destination: {ports: ['8000:9000']}}
        """,
    )
    api = authorization("api", text).ingress[0].policies[0].rules
    web = authorization("web", text).ingress[0].policies[0].rules
    assert [rule.name for rule in api] == ["ingress[0]", "ingress[3]"]
    assert [rule.name for rule in web] == ["ingress[1]", "ingress[3]"]
    assert api[1].ports == (PortRange(8000, 9000),)


def test_tiers_and_policies_are_in_calico_s_order() -> None:
    def policy(name: str, extra: str) -> str:
        return document("NetworkPolicy", f"selector: all()\n{extra}", name)

    found = authorization(
        "api",
        document("Tier", "order: 10\ndefaultAction: Pass", "early"),
        document("Tier", "{}", "unordered"),
        policy("z", "order: 1"),
        policy("b", "tier: default"),
        policy("a", "tier: default"),
        policy("e", "tier: early"),
        policy("u", "tier: unordered"),
    )
    assert [(tier.name, tier.default_action) for tier in found.ingress] == [
        ("early", NetworkAction.PASS),
        ("default", NetworkAction.DENY),
        ("unordered", NetworkAction.DENY),
    ]
    assert [policy.name.rpartition("/")[2] for policy in found.ingress[1].policies] == ["z", "a", "b"]
    assert found.egress == ()


def test_an_egress_rule_to_a_service_names_its_ports() -> None:
    text = document("NetworkPolicy", "egress: [{action: Allow, destination: {services: {name: redis}}}]")
    (rule,) = authorization("api", text).egress[0].policies[0].rules
    assert (rule.peer.services, rule.ports) == (names("redis"), (PortRange(6379, 6379),))


def test_a_global_policy_can_select_namespaces() -> None:
    text = document("GlobalNetworkPolicy", "namespaceSelector: \"name == 'blog'\"\ningress: [{action: Deny}]")
    assert authorization("api", text).ingress == ()
    assert authorization("blog/web", text).ingress[0].policies[0].name == "GlobalNetworkPolicy p"


def test_istio_policies_select_by_namespace_and_labels_and_the_root_s_select_all() -> None:
    own = document("AuthorizationPolicy", "selector: {matchLabels: {app: api}}", "own")
    root = document("AuthorizationPolicy", "action: DENY\nrules: [{}]", "root", namespace="mesh-system")
    assert [p.name for p in authorization("api", own, root).policies] == [
        "AuthorizationPolicy mesh-system/root",
        "AuthorizationPolicy shop/own",
    ]
    assert len(authorization("web", own, root).policies) == 1
    assert len(authorization("blog/web", own, root).policies) == 1


def test_a_policy_of_target_refs_attaches_to_the_services_behind_a_name_of_its_namespace() -> None:
    one = document("AuthorizationPolicy", "targetRefs: [{kind: Service, group: '', name: api}]")
    shared = document("AuthorizationPolicy", "targetRefs: [{kind: Service, name: catalog}]", "q")
    attached = {w: len(authorization(w, one, shared).policies) for w in ("api", "web", "catalog-v1")}
    assert attached == {"api": 1, "web": 0, "catalog-v1": 1}
    other = document("AuthorizationPolicy", "targetRefs: [{kind: Service, name: web}]", namespace="blog")
    assert not authorization("web", other).policies
    assert authorization("blog/web", other).policies


def test_fields_of_tokens_and_forwarded_addresses_reach_the_workload() -> None:
    text = document(
        "AuthorizationPolicy",
        """
        rules:
        - from:
          - source:
              requestPrincipals: ['https://idp/*']
              notRequestPrincipals: ['*/root']
              remoteIpBlocks: [10.0.0.0/8]
              notRemoteIpBlocks: [10.1.2.3]
          when: [{key: 'request.auth.claims[realm][groups]', values: [ops]}]
        """,
    )
    (rule,) = authorization("api", text).policies[0].rules
    source = rule.sources[0]
    assert source.request_principals == (Prefix("https://idp/"),)
    assert source.not_request_principals == (Suffix("/root"),)
    assert (source.remote_ip_blocks, source.not_remote_ip_blocks) == (("10.0.0.0/8",), ("10.1.2.3/32",))
    assert rule.conditions[0].key == "request.auth.claims[realm][groups]"


def test_identities_are_principals_of_the_mesh_s_trust_domain() -> None:
    text = document(
        "AuthorizationPolicy",
        """
        rules:
        - from:
          - source: {principals: [cluster.local/ns/shop/sa/web, 'cluster.local/ns/blog/*', other/ns/a/sa/b]}
          - source: {serviceAccounts: [web, blog/web], notTrustDomains: [cluster.local]}
          when: [{key: source.principal, values: [cluster.local/ns/shop/sa/web]}]
        """,
    )
    (rule,) = authorization("api", text, trust_domain="corp").policies[0].rules
    assert rule.sources[0].principals == (
        Exact("corp/ns/shop/sa/web"),
        Prefix("corp/ns/blog/"),
        Exact("other/ns/a/sa/b"),
    )
    assert rule.sources[1].principals == (Exact("corp/ns/shop/sa/web"), Exact("corp/ns/blog/sa/web"))
    assert rule.sources[1].not_principals == (Prefix("corp/"),)
    assert rule.conditions[0].values == (Exact("corp/ns/shop/sa/web"),)
    assert rule.name == "rules[0]"
