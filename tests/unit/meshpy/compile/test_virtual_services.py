"""Which VirtualService governs, opaque routes by server name and address, mirrors."""

from __future__ import annotations

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import EgressHost, Inventory, Port
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import OutboundListener, Snapshot
from tests.helpers.policies import document, loaded, service, shop


def compiled(caller: str, *texts: str, inventory: Inventory | None = None) -> Snapshot:
    namespace, _, name = caller.rpartition("/")
    mesh = compile_mesh(inventory or shop(), loaded(*texts), trust_domain="cluster.local", revision=1)
    return mesh[ServiceName(namespace or "shop", name)]


def listener(snapshot: Snapshot, port: int) -> OutboundListener:
    (found,) = (one for one in snapshot.outbound if one.port == port)
    return found


def policy_for(caller: str, host: str, *texts: str, inventory: Inventory | None = None) -> str:
    snapshot = compiled(caller, *texts, inventory=inventory)
    hosts = [one for found in snapshot.outbound for one in found.virtual_hosts]
    return next(one.rules[0].policy for one in hosts if one.host == host)


def answer(name: str, hosts: str, extra: str = "", namespace: str = "shop") -> str:
    spec = f"hosts: [{hosts}]\n{extra}\nhttp: [{{directResponse: {{status: 418}}}}]"
    return document("VirtualService", spec, name, namespace)


@pytest.mark.parametrize(
    ("hosts", "governs"),
    [
        ("'*'", True),
        ("'*.shop'", True),
        ("'*.shop.svc.cluster.local'", True),
        ("'*.svc.cluster.local'", True),
        ("'*.blog'", False),
        ("'*.api.shop'", False),
    ],
)
def test_a_wildcard_governs_the_hosts_that_it_means(hosts: str, governs: bool) -> None:
    assert bool(policy_for("web", "api.shop", answer("wild", hosts))) == governs


def test_the_most_specific_host_wins() -> None:
    texts = (answer("any", "'*'"), answer("stack", "'*.shop'"), answer("exact", "api"))
    assert policy_for("web", "api.shop", *texts) == "VirtualService shop/exact"
    assert policy_for("web", "catalog.shop", *texts) == "VirtualService shop/stack"


def test_two_wildcards_of_a_namespace_for_one_host_are_an_error() -> None:
    (problem,) = check(shop(), loaded(answer("a", "'*.shop'"), answer("b", "'*.shop'"))).errors
    assert "both route *.shop" in problem.what


@pytest.mark.parametrize(
    ("export", "shop_sees", "blog_sees"),
    [
        ("", True, True),
        ('["*"]', True, True),
        ('["."]', True, False),
        ("[blog]", False, True),
        ("[shop]", True, False),
    ],
)
def test_export_to_names_the_namespaces_whose_callers_see_it(
    export: str, shop_sees: bool, blog_sees: bool
) -> None:
    text = answer("a", "api", f"exportTo: {export}" if export else "")
    inventory = shop(service("blog/web", networks=frozenset({"shop_default"})))
    found = [
        bool(policy_for(caller, "api.shop", text, inventory=inventory)) for caller in ("web", "blog/web")
    ]
    assert found == [shop_sees, blog_sees]


TLS = (Port(8443, Protocol.TLS),)
SNI = document(
    "VirtualService",
    """
    hosts: [vault, '*.vault.example']
    tls:
    - match: [{sniHosts: [vault], port: 1}]
      route: [{destination: {host: catalog}}]
    - match: [{sniHosts: ['*.vault.example'], sourceLabels: {tier: back}}, {sniHosts: [admin.vault.example]}]
      route:
      - {destination: {host: vault}, weight: 90}
      - {destination: {host: vault2}, weight: 10}
    """,
)


def test_tls_routes_are_settled_for_caller_and_port_and_leave_the_server_name() -> None:
    inventory = shop(service("vault", ports=TLS), service("vault2", ports=(Port(9443, Protocol.TLS),)))
    assert not check(inventory, loaded(SNI)).errors
    for caller, names in (
        ("web", [("admin.vault.example",)]),
        ("api", [("*.vault.example",), ("admin.vault.example",)]),
    ):
        found = listener(compiled(caller, SNI, inventory=inventory), 8443)
        assert [route.sni_hosts for route in found.opaque] == names
        targets = [(d.cluster, d.weight) for d in found.opaque[-1].destinations]
        assert targets == [("outbound|8443||vault.shop", 90), ("outbound|9443||vault2.shop", 10)]
        assert found.tcp is not None
        assert found.tcp.destinations[0].cluster == "outbound|8443||vault.shop"


def test_tls_destinations_share_an_address_and_the_server_name_tells_them_apart() -> None:
    api = service(
        "api", egress=(EgressHost("a.example", 443, Protocol.TLS), EgressHost("b.example", 443, Protocol.TLS))
    )
    found = listener(compiled("api", inventory=shop(api)), 443)
    assert found.tcp is None
    assert [route.sni_hosts for route in found.opaque] == [("a.example",), ("b.example",)]
    assert not [w for w in check(shop(api), loaded()).warnings if "443" in w.what]


def test_tls_routes_of_a_host_without_a_tls_port_are_an_error() -> None:
    text = document(
        "VirtualService",
        "hosts: [redis]\ntls: [{match: [{sniHosts: [redis]}], route: [{destination: {host: redis}}]}]",
    )
    (problem,) = check(shop(), loaded(text)).errors
    assert "no port that speaks TLS" in problem.what


def test_tcp_routes_by_destination_address_stay_for_the_connection_to_decide() -> None:
    text = document(
        "VirtualService",
        """
        hosts: [redis]
        tcp:
        - match: [{destinationSubnets: [10.9.0.0/16, 10.8.0.1]}]
          route: [{destination: {host: redis2}}]
        - route: [{destination: {host: redis}}]
        """,
    )
    other = service("redis2", ports=(Port(6380, Protocol.TCP),))
    found = listener(compiled("web", text, inventory=shop(other)), 6379)
    assert [(r.subnets, r.destinations[0].cluster) for r in found.opaque] == [
        (("10.9.0.0/16", "10.8.0.1/32"), "outbound|6380||redis2.shop")
    ]
    assert found.tcp is not None
    assert found.tcp.destinations[0].cluster == "outbound|6379||redis.shop"


def test_a_mirror_has_a_cluster_of_its_own() -> None:
    text = document(
        "VirtualService",
        """
        hosts: [api]
        http:
        - route: [{destination: {host: api}}]
          mirrors:
          - {destination: {host: catalog}, percentage: {value: 12.5}}
          - {destination: {host: web, port: {number: 80}}}
        """,
    )
    snapshot = compiled("web", text)
    (rule,) = next(h for h in listener(snapshot, 8080).virtual_hosts if h.host == "api.shop").rules
    assert [(m.destination.cluster, m.pct) for m in rule.mirrors] == [
        ("outbound|8080||catalog.shop", 12.5),
        ("outbound|80||web.shop", 100.0),
    ]
    assert {m.destination.cluster for m in rule.mirrors} <= set(snapshot.clusters)


def test_a_mirror_s_host_is_checked_as_a_destination_is() -> None:
    text = document(
        "VirtualService", "hosts: [api]\nhttp: [{route: [{destination: {host: api}}], mirror: {host: gone}}]"
    )
    (problem,) = check(shop(), loaded(text)).errors
    assert "no service is called 'gone'" in problem.what


PROXIED = "{{host: {host}, trafficPolicy: {{proxyProtocol: {{version: V2}}, connectionPool: {{}}}}}}"


def test_proxy_headers_go_to_opaque_ports_of_servers_without_a_sidecar() -> None:
    old = service("old", exempt="docker.sock", endpoints=(), ports=(Port(25, Protocol.TCP),))
    text = document("DestinationRule", PROXIED.format(host="old"))
    assert not check(shop(old), loaded(text)).errors
    assert compiled("web", text, inventory=shop(old)).clusters["outbound|25||old.shop"].proxy_protocol == 2
    assert compiled("web", inventory=shop(old)).clusters["outbound|25||old.shop"].proxy_protocol == 0


@pytest.mark.parametrize(
    ("host", "says"), [("redis", "has sidecars"), ("cron", "serve many callers in turn")]
)
def test_proxy_headers_that_nobody_could_read_are_an_error(host: str, says: str) -> None:
    cron = service("cron", exempt="docker.sock", endpoints=())
    text = document("DestinationRule", PROXIED.format(host=host))
    (problem,) = check(shop(cron), loaded(text)).errors
    assert says in problem.what
    assert not any(c.proxy_protocol for c in compiled("web", text, inventory=shop(cron)).clusters.values())


def test_a_declared_port_reads_proxy_headers() -> None:
    web = service("web", ports=(Port(80, Protocol.HTTP, published=True, proxy_protocol=True),))
    (port,) = compiled("web", inventory=shop(web)).inbound
    assert port.proxy_protocol


@pytest.mark.parametrize("kind", ["VirtualService", "HTTPRoute"])
def test_connect_is_let_through_to_the_destinations_of_rules_that_name_it(kind: str) -> None:
    specs = {
        "VirtualService": """
            hosts: [www]
            http:
            - {match: [{method: {exact: CONNECT}}], route: [{destination: {host: api}}]}
            - route: [{destination: {host: catalog}}]
            """,
        "HTTPRoute": """
            parentRefs: [{group: "", kind: Service, name: api}]
            rules: [{matches: [{method: CONNECT}], backendRefs: [{name: api, port: 8080}]}]
            """,
    }
    text = document(kind, specs[kind])
    found = {name: compiled(name, text).inbound[0].allows_connect for name in ("api", "catalog-v1", "web")}
    assert found == {"api": True, "catalog-v1": False, "web": False}


@pytest.mark.parametrize(
    ("exports", "clash"),
    [(("[blog]", "['.']"), False), (("[shop]", "['.']"), True), (("['*']", "[blog]"), True)],
)
def test_two_for_one_host_clash_where_a_namespace_sees_both(exports: tuple[str, str], clash: bool) -> None:
    texts = [answer(f"v{n}", "api", f"exportTo: {export}") for n, export in enumerate(exports)]
    found = check(shop(), loaded(*texts)).errors
    assert bool(found) == clash
    assert not clash or "VirtualService shop/v1 and VirtualService shop/v0" in found[0].what


def test_routes_by_address_hold_for_their_own_host_where_several_share_the_listener() -> None:
    text = document(
        "VirtualService",
        """
        hosts: [a.example]
        tcp:
        - match: [{destinationSubnets: [10.9.0.0/16]}]
          route: [{destination: {host: b.example}}]
        """,
    )
    hosts = (EgressHost("a.example", 443, Protocol.TLS), EgressHost("b.example", 443, Protocol.TLS))
    found = listener(compiled("api", text, inventory=shop(service("api", egress=hosts))), 443)
    assert [(r.sni_hosts, r.subnets) for r in found.opaque] == [
        (("a.example",), ("10.9.0.0/16",)),
        (("a.example",), ()),
        (("b.example",), ()),
    ]


def test_connect_to_a_port_of_another_protocol_is_an_error() -> None:
    http2 = service("squid", ports=(Port(3128, Protocol.HTTP2),))
    match = "match: [{method: {exact: CONNECT}}]"
    text = document(
        "VirtualService", f"hosts: [squid]\nhttp: [{{{match}, route: [{{destination: {{host: squid}}}}]}}]"
    )
    (problem,) = check(shop(http2), loaded(text)).errors
    assert "squid.shop speaks http2" in problem.what
    assert not check(shop(service("squid")), loaded(text)).errors
