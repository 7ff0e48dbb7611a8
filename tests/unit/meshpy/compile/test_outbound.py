"""Listeners, virtual hosts, routes and clusters of one caller."""

from __future__ import annotations

import json
from dataclasses import replace

from meshpy.compile import check, compile_mesh
from meshpy.model.endpoint import Endpoint, Protocol, Transport
from meshpy.model.inventory import AppAddress, Inventory, Port
from meshpy.model.names import ServiceName
from meshpy.model.resilience import DEFAULT_RETRY, LoadBalancing
from meshpy.model.route import Forward, TcpRoute, VirtualHost
from meshpy.model.snapshot import OutboundListener, Snapshot
from meshpy.policy import PolicySet
from meshpy.wire import apply_delta, decode_snapshot, delta, encode
from tests.helpers.policies import BRIEF, document, loaded, service, shop


def compiled(caller: str, *texts: str, inventory: Inventory | None = None) -> Snapshot:
    namespace, _, name = caller.rpartition("/")
    mesh = compile_mesh(inventory or shop(), loaded(*texts), trust_domain="cluster.local", revision=1)
    return mesh[ServiceName(namespace or "shop", name)]


def listener(snapshot: Snapshot, port: int) -> OutboundListener:
    (found,) = (one for one in snapshot.outbound if one.port == port)
    return found


def host_of(snapshot: Snapshot, port: int, host: str) -> VirtualHost:
    (found,) = (one for one in listener(snapshot, port).virtual_hosts if one.host == host)
    return found


def clusters_of(host: VirtualHost) -> list[list[tuple[str, int]]]:
    actions = (rule.action for rule in host.rules)
    return [[(d.cluster, d.weight) for d in a.destinations] for a in actions if isinstance(a, Forward)]


CANARY = document(
    "VirtualService",
    """
    hosts: [catalog]
    http:
    - match: [{headers: {x-user: {exact: jason}}, sourceLabels: {tier: back}}, {port: 9999}]
      route: [{destination: {host: catalog, subset: v2}}]
    - route:
      - {destination: {host: catalog, subset: v1}, weight: 90}
      - {destination: {host: catalog, subset: v2}, weight: 10}
      timeout: 5s
    """,
)
SUBSETS = document(
    "DestinationRule",
    """
    host: catalog
    trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {}}
    subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
    """,
)


def test_a_caller_sees_who_shared_a_network_and_nobody_else() -> None:
    snapshot = compiled("report")
    assert [(one.port, one.tcp.host if one.tcp else "") for one in snapshot.outbound] == [
        (6379, "redis.shop")
    ]
    assert set(snapshot.clusters) == {"inbound|8080||", "outbound|6379||redis.shop"}


def test_a_snapshot_does_not_grow_with_what_its_workload_cannot_reach() -> None:
    crowd = [service(f"crowd/s{i}") for i in range(30)]
    assert compiled("web", inventory=shop(*crowd)) == compiled("web")


def test_every_name_of_a_service_selects_its_virtual_host() -> None:
    domains = host_of(compiled("web"), 8080, "api.shop").domains
    assert {
        "api",
        "shop_api",
        "tasks.api",
        "tasks.shop_api",
        "api.shop",
        "api.shop.svc.cluster.local",
    } <= set(domains)


def test_a_shared_host_is_the_union_of_its_services() -> None:
    snapshot = compiled("web")
    assert clusters_of(host_of(snapshot, 8080, "catalog.shop")) == [[("outbound|8080||catalog.shop", 100)]]
    cluster = snapshot.clusters["outbound|8080||catalog.shop"]
    assert {endpoint.workload for endpoint in cluster.endpoints} == {
        ServiceName("shop", "catalog-v1"),
        ServiceName("shop", "catalog-v2"),
    }
    assert (cluster.transport, cluster.sni) == (Transport.MTLS, "")


def test_a_default_host_is_given_only_when_there_is_one() -> None:
    assert listener(compiled("web"), 8080).default_host == ""
    assert listener(compiled("api"), 80).default_host == "web.shop"


def test_an_egress_host_is_a_plain_cluster_by_name() -> None:
    snapshot = compiled("api")
    found = listener(snapshot, 443)
    assert found.protocol is Protocol.TLS
    assert isinstance(found.tcp, TcpRoute)
    cluster = snapshot.clusters["outbound|443||api.stripe.com"]
    assert (cluster.transport, cluster.dns, cluster.dns_port) == (Transport.PLAIN, "api.stripe.com", 443)


def test_an_exempt_service_is_reached_as_it_is_over_the_shared_network() -> None:
    cron = service("cron", exempt="docker.sock", endpoints=(), app=AppAddress())
    cluster = compiled("web", inventory=shop(cron)).clusters["outbound|8080||cron.shop"]
    assert (cluster.transport, cluster.dns) == (Transport.PLAIN, "tasks.shop_cron.shop_default")


def test_binds_separate_hosts_and_the_pod_network_is_the_default() -> None:
    web = service("web", bind={"": "10.9.0.1", "api": "127.0.1.2"})
    snapshot = compiled("web", inventory=shop(web))
    assert {(one.bind, h.host) for one in snapshot.outbound for h in one.virtual_hosts} >= {
        ("127.0.1.2", "api.shop"),
        ("10.9.0.1", "catalog.shop"),
    }
    assert {one.bind for one in compiled("web").outbound} == {"shop_web-pod"}


def test_two_opaque_destinations_on_one_address_get_no_listener() -> None:
    other = service("redis2", ports=(Port(6379, Protocol.TCP),))
    snapshot = compiled("web", inventory=shop(other))
    assert 6379 not in {one.port for one in snapshot.outbound}


def test_a_virtual_service_replaces_the_default_route_with_subsets() -> None:
    snapshot = compiled("web", CANARY, SUBSETS)
    host = host_of(snapshot, 8080, "catalog.shop")
    v1, v2 = "outbound|8080|v1|catalog.shop", "outbound|8080|v2|catalog.shop"
    assert clusters_of(host) == [[(v1, 90), (v2, 10)]]  # web has no label tier=back, port 9999 is not called
    assert host.rules[0].policy == "VirtualService shop/p"
    assert (host.rules[0].timeout_s, host.rules[0].retry) == (5.0, DEFAULT_RETRY)
    assert {e.workload for e in snapshot.clusters[v2].endpoints} == {ServiceName("shop", "catalog-v2")}
    assert snapshot.clusters[v1].load_balancing is LoadBalancing.RANDOM
    assert snapshot.clusters[v2].load_balancing is LoadBalancing.ROUND_ROBIN
    assert snapshot.clusters[v2].outlier is not None


def test_source_labels_are_settled_for_the_caller() -> None:
    host = host_of(compiled("api", CANARY, SUBSETS), 8080, "catalog.shop")
    assert len(host.rules) == 2
    assert [len(rule.matches) for rule in host.rules] == [1, 0]


def test_an_unknown_destination_is_an_empty_cluster() -> None:
    text = document("VirtualService", "hosts: [api]\nhttp: [{route: [{destination: {host: gone}}]}]")
    snapshot = compiled("web", text)
    assert snapshot.clusters["outbound|8080||gone.shop"].endpoints == ()


def test_port_level_settings_replace_and_inherit_nothing() -> None:
    text = document(
        "DestinationRule",
        """
        host: api
        trafficPolicy:
          outlierDetection: {}
          portLevelSettings: [{port: {number: 8080}, loadBalancer: {simple: RANDOM}}]
        """,
    )
    cluster = compiled("web", text).clusters["outbound|8080||api.shop"]
    assert (cluster.load_balancing, cluster.outlier) == (LoadBalancing.RANDOM, None)


def test_another_stack_s_virtual_service_routes_its_own_callers_only() -> None:
    text = document(
        "VirtualService", "hosts: [api.shop]\nhttp: [{directResponse: {status: 418}}]", namespace="blog"
    )
    assert clusters_of(host_of(compiled("web", text), 8080, "api.shop")) == [
        [("outbound|8080||api.shop", 100)]
    ]


def test_a_tcp_route_is_chosen_by_its_source() -> None:
    text = document(
        "VirtualService",
        """
        hosts: [redis]
        tcp:
        - {match: [{sourceLabels: {tier: back}}], route: [{destination: {host: gone, port: {number: 6379}}}]}
        """,
    )
    back, web = listener(compiled("api", text), 6379).tcp, listener(compiled("web", text), 6379).tcp
    assert back is not None
    assert web is not None
    assert back.destinations[0].cluster == "outbound|6379||gone.shop"
    assert web.destinations[0].cluster == "outbound|6379||redis.shop"


def test_a_snapshot_survives_the_wire_and_deltas_rebuild_it() -> None:
    plain = compile_mesh(shop(), PolicySet(), trust_domain="cluster.local", revision=1)
    ruled = compile_mesh(shop(), loaded(BRIEF, CANARY, SUBSETS), trust_domain="cluster.local", revision=2)
    for name, snapshot in ruled.items():
        new, old = json.loads(json.dumps(encode(snapshot))), encode(plain[name])
        assert decode_snapshot(new) == snapshot
        rebuilt = decode_snapshot(apply_delta(old, delta(old, new)))
        assert (rebuilt.version, rebuilt.authorization) == (snapshot.version, snapshot.authorization)
        assert rebuilt.clusters == snapshot.clusters
        by_place = {(one.bind, one.port): one for one in rebuilt.outbound}
        assert by_place == {(one.bind, one.port): one for one in snapshot.outbound}


def test_the_version_is_a_hash_of_the_content() -> None:
    again = compiled("web", CANARY, SUBSETS).version
    assert compiled("web", CANARY, SUBSETS).version == again
    assert compiled("web", CANARY).version != again


def test_a_host_that_is_no_service_listens_on_the_ports_of_its_destinations() -> None:
    text = document("VirtualService", "hosts: [www]\nhttp: [{route: [{destination: {host: api}}]}]")
    host = host_of(compiled("web", text), 8080, "www")
    assert (host.domains, clusters_of(host)) == (("www",), [[("outbound|8080||api.shop", 100)]])
    assert compiled("blog/web", text) == compiled("blog/web")


def test_a_consumer_s_private_virtual_service_precedes_the_owner_s() -> None:
    owner = document("VirtualService", "hosts: [api]\nhttp: [{directResponse: {status: 500}}]", "owner")
    spec = 'hosts: [api.shop]\nexportTo: ["."]\nhttp: [{directResponse: {status: 418}}]'
    consumer = document("VirtualService", spec, "consumer", namespace="blog")
    blog = service("blog/web", networks=frozenset({"shop_default"}))
    found = [
        host_of(compiled(caller, owner, consumer, inventory=shop(blog)), 8080, "api.shop").rules[0].policy
        for caller in ("blog/web", "web")
    ]
    assert found == ["VirtualService blog/consumer", "VirtualService shop/owner"]


def test_a_workload_selector_chooses_callers_of_its_own_namespace_and_comes_first() -> None:
    general = document("DestinationRule", "host: api\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}", "a")
    special = document(
        "DestinationRule",
        "host: api\nworkloadSelector: {matchLabels: {tier: front}}\n"
        "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}",
        "z",
    )
    front = service("front", labels={"tier": "front"})
    found = [
        compiled(caller, general, special, inventory=shop(front)).clusters["outbound|8080||api.shop"]
        for caller in ("front", "web")
    ]
    assert [each.load_balancing for each in found] == [LoadBalancing.ROUND_ROBIN, LoadBalancing.RANDOM]


def test_localities_travel_only_where_a_cluster_asks_for_them() -> None:
    rule = document(
        "DestinationRule",
        "host: api\ntrafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {}}}",
    )
    inventory = shop()
    services = dict(inventory.services)
    for text, node in (("shop/web", "n1"), ("shop/api", "n2")):
        name = ServiceName.parse(text)
        services[name] = replace(services[name], endpoints=(Endpoint("10.0.0.9", 15443, name, node),))
    inventory = Inventory(services, {"n1": "eu/a/n1", "n3": "us/a/n3"})
    assert compiled("web", rule, inventory=inventory).localities == {"n1": "eu/a/n1", "n2": "//n2"}
    assert compiled("web", inventory=inventory).localities == {}


def test_a_port_that_is_told_by_its_bytes_has_routes_for_both_kinds() -> None:
    """`auto`: requests by authority, all else to the only host there."""
    other = service("odd", ports=(Port(7000, Protocol.AUTO),))
    snapshot = compiled("web", inventory=shop(other))
    found = listener(snapshot, 7000)
    assert found.protocol is Protocol.AUTO
    assert [host.host for host in found.virtual_hosts] == ["odd.shop"]
    assert found.tcp is not None
    assert found.tcp.destinations[0].cluster == "outbound|7000||odd.shop"
    assert snapshot.clusters["outbound|7000||odd.shop"].pool.use_client_protocol
    callee = compiled("odd", inventory=shop(other))
    assert callee.clusters["inbound|7000||"].pool.use_client_protocol


def test_of_two_hosts_on_one_address_opaque_bytes_do_not_tell_which() -> None:
    one, two = (service(name, ports=(Port(7000, Protocol.AUTO),)) for name in ("odd", "even"))
    mesh = compile_mesh(shop(one, two), loaded(), trust_domain="cluster.local", revision=1)
    found = listener(mesh[ServiceName("shop", "web")], 7000)
    assert (found.protocol, found.tcp) == (Protocol.HTTP, None)
    warnings = check(shop(one, two), loaded()).warnings
    assert any("opaque bytes do not tell" in (problem.instead or "") for problem in warnings)
