"""Opaque connections: the most specific server name, then the first in order, then those without a name."""

import pytest

from meshpy.engine.match import MatchError
from meshpy.engine.opaque import OpaqueRouter
from meshpy.model.endpoint import Protocol
from meshpy.model.route import Destination, TcpRoute
from meshpy.model.snapshot import OutboundListener


def to(cluster, *names, subnets=()):
    return TcpRoute("h", (Destination(cluster),), "", names, tuple(subnets))


def router(*conditional, default=None):
    return OpaqueRouter(OutboundListener("pod", 443, Protocol.TLS, tcp=default, opaque=conditional))


def cluster_of(router, name, address="10.0.0.1"):
    found = router.route(name, address)
    return found.route.destinations[0].cluster if found is not None else None


@pytest.mark.parametrize(
    ("name", "cluster"),
    [
        ("a.example.com", "exact"),
        ("A.Example.COM.", "exact"),
        ("b.example.com", "suffix"),
        ("x.b.example.com", "suffix"),
        ("x.deep.example.com", "deep"),
        ("example.com", "any"),
        ("", "default"),
    ],
)
def test_the_most_specific_server_name_wins(name, cluster):
    found = router(
        to("any", "*"),
        to("suffix", "*.example.com"),
        to("deep", "*.deep.example.com"),
        to("exact", "a.example.com"),
        default=to("default"),
    )
    assert found.needs_server_name
    assert cluster_of(found, name) == cluster


def test_among_equal_names_the_first_whose_address_fits_decides():
    found = router(to("near", "a", subnets=["10.1.0.0/16"]), to("far", "a"), to("never", "a"))
    assert cluster_of(found, "a", "10.1.2.3") == "near"
    assert cluster_of(found, "a", "10.2.2.3") == "far"
    assert cluster_of(found, "a", "shop_web-pod") == "far"


def test_without_a_default_what_is_not_named_has_no_route():
    assert cluster_of(router(to("a", "a")), "b") is None


def test_routes_by_address_alone_need_no_client_hello():
    found = router(to("six", subnets=["fd00::/8", "127.0.0.0/8"]), default=to("rest"))
    assert not found.needs_server_name
    assert [cluster_of(found, "", one) for one in ("fd00::1", "127.0.0.9", "10.0.0.1")] == [
        "six",
        "six",
        "rest",
    ]


def test_a_subnet_that_is_none_is_refused():
    with pytest.raises(MatchError):
        router(to("a", subnets=["10.0.0.0/99"]))
