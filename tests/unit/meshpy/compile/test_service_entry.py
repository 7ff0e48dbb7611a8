"""ServiceEntries: where hosts outside the mesh are, for whom, and what routes may do with them."""

from __future__ import annotations

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.inventory import EgressHost, Inventory
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from tests.helpers.policies import document, loaded, service, shop

STRIPE = """
hosts: [api.stripe.com]
ports: [{number: 443, name: tls, protocol: TLS}]
"""


def snapshot(*texts: str, of: str = "shop/api", inventory: Inventory | None = None) -> Snapshot:
    mesh = compile_mesh(inventory or shop(), loaded(*texts), trust_domain="cluster.local", revision=1)
    return mesh[ServiceName.parse(of)]


def cluster(*texts: str, port: int = 443, of: str = "shop/api") -> Cluster:
    return snapshot(*texts, of=of).clusters[f"outbound|{port}||api.stripe.com"]


def entry(more: str = "", *, ports: str = "", name: str = "p", namespace: str = "shop") -> str:
    spec = STRIPE if not ports else f"hosts: [api.stripe.com]\nports: [{ports}]"
    return document("ServiceEntry", f"{spec}\n{more}", name, namespace)


def test_without_an_entry_the_name_is_looked_up() -> None:
    assert (cluster().dns, cluster().dns_port, cluster().transport) == (
        "api.stripe.com",
        443,
        Transport.PLAIN,
    )


@pytest.mark.parametrize("more", ["", "resolution: DNS", "resolution: NONE\nlocation: MESH_EXTERNAL"])
def test_none_and_dns_look_the_host_up(more: str) -> None:
    assert (cluster(entry(more)).dns, cluster(entry(more)).dns_port) == ("api.stripe.com", 443)


def test_static_endpoints_are_dialled_at_their_ports() -> None:
    found = cluster(
        entry(
            "resolution: STATIC\nendpoints: [{address: 192.0.2.2, ports: {tls: 8443}}, {address: 192.0.2.1}]"
        )
    )
    assert found.endpoints == (Endpoint("192.0.2.1", 443), Endpoint("192.0.2.2", 8443))
    assert (found.dns, found.protocol) == ("", Protocol.TLS)


def test_a_target_port_and_a_name_as_endpoint() -> None:
    ports = "{number: 443, name: tls, protocol: HTTPS, targetPort: 9443}"
    found = cluster(entry("resolution: DNS\nendpoints: [{address: Other.example.com}]", ports=ports))
    assert (found.dns, found.dns_port) == ("other.example.com", 9443)


def test_the_caller_s_own_entry_precedes_the_root_s_and_strangers_have_no_say() -> None:
    def at(address: str, name: str, namespace: str) -> str:
        more = f"resolution: STATIC\nendpoints: [{{address: {address}}}]"
        return entry(more, name=name, namespace=namespace)

    own, root = at("192.0.2.1", "own", "shop"), at("192.0.2.2", "root", "mesh-system")
    strange = at("192.0.2.3", "strange", "blog")
    assert cluster(strange, root, own).endpoints == (Endpoint("192.0.2.1", 443),)
    assert cluster(strange, root).endpoints == (Endpoint("192.0.2.2", 443),)
    assert cluster(strange).dns == "api.stripe.com"


def test_an_entry_alone_gives_no_app_the_name_but_routes_a_destination() -> None:
    pay = "hosts: [pay.example.com]\nports: [{number: 80, name: http, protocol: HTTP}]"
    route = """
    hosts: [catalog]
    http: [{match: [{uri: {prefix: /pay}}], route: [{destination: {host: pay.example.com}}]},
           {route: [{destination: {host: catalog}}]}]
    """
    texts = document("ServiceEntry", pay), document("VirtualService", route)
    found = snapshot(*texts, of="shop/web")
    assert found.clusters["outbound|80||pay.example.com"].dns == "pay.example.com"
    assert "pay.example.com" not in {listener.tcp.host for listener in found.outbound if listener.tcp}
    assert not check(shop(), loaded(*texts)).errors
    hidden = document("ServiceEntry", f"{pay}\nexportTo: ['.']", namespace="blog")
    assert "no service is called 'pay.example.com'" in check(shop(), loaded(hidden, texts[1])).errors[0].what


def test_subsets_choose_among_endpoints() -> None:
    caller = service("pay", egress=(EgressHost("api.stripe.com", 80, Protocol.HTTP),))
    ends = "[{address: 192.0.2.1, labels: {v: a}}, {address: 192.0.2.2, labels: {v: b}}]"
    texts = (
        entry(f"resolution: STATIC\nendpoints: {ends}", ports="{number: 80, name: http, protocol: HTTP}"),
        document("DestinationRule", "host: api.stripe.com\nsubsets: [{name: b, labels: {v: b}}]"),
        document(
            "VirtualService",
            "hosts: [api.stripe.com]\nhttp: [{route: [{destination: {host: api.stripe.com, subset: b}}]}]",
        ),
    )
    found = snapshot(*texts, of="shop/pay", inventory=shop(caller))
    assert found.clusters["outbound|80|b|api.stripe.com"].endpoints == (Endpoint("192.0.2.2", 80),)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (
            [document("ServiceEntry", STRIPE.replace("api.stripe.com", "redis"))],
            "redis is a service of the mesh",
        ),
        ([entry(name="a"), entry(name="b")], "both describe api.stripe.com"),
        ([entry(ports="{number: 443, name: a, protocol: HTTP}")], "port 443 is http here"),
    ],
)
def test_what_cannot_be_meant_is_an_error(texts: list[str], says: str) -> None:
    assert says in check(shop(), loaded(*texts)).errors[0].what


def test_a_host_that_nobody_can_call_is_told() -> None:
    text = document("ServiceEntry", STRIPE.replace("api.stripe.com", "x.example.com"))
    (warning,) = check(shop(), loaded(text)).warnings
    assert warning.what == "ServiceEntry shop/p: no service can call x.example.com"
    assert 'meshpy.egress: "x.example.com:443/tls"' in warning.instead
