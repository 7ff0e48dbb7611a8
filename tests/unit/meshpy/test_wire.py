"""Snapshots travel as JSON and come back as they were; what is not one is refused by path."""

import json

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Operation,
    PeerMatch,
    PortRange,
    Source,
    Tier,
)
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.match import Exact, HeaderMatch, Prefix, Regex, RequestMatch
from meshpy.model.names import ServiceName
from meshpy.model.resilience import RetryOn, RetryPolicy
from meshpy.model.route import (
    Destination,
    DirectResponse,
    Forward,
    HeaderOps,
    Redirect,
    RouteRule,
    TcpRoute,
    VirtualHost,
)
from meshpy.model.snapshot import InboundPort, OutboundListener, Snapshot, Workload, mesh_sni, port_of_sni
from meshpy.wire import WireError, apply_delta, decode, decode_snapshot, delta, encode, version_of

WEB, API, REDIS = (ServiceName("shop", name) for name in ("web", "api", "redis"))


def snapshot() -> Snapshot:
    """One of everything that has a shape of its own."""
    rules = (
        RouteRule(
            action=Forward((Destination("outbound|8080||api.shop", 90, "api", services=(API,)),)),
            matches=(
                RequestMatch(
                    path=Prefix("/v1"),
                    headers=(HeaderMatch("end-user", Exact("jason")), HeaderMatch("x", invert=True)),
                    query={"q": Regex("a+")},
                ),
            ),
            timeout_s=1.5,
            retry=RetryPolicy(attempts=3, on=frozenset({RetryOn.RESET}), status_codes=frozenset({503})),
            request_headers=HeaderOps(set=(("X-A", "1"),), remove=("X-B",)),
        ),
        RouteRule(action=Redirect(uri="/new")),
        RouteRule(action=DirectResponse(418, "teapot")),
    )
    tier = Tier(
        "default",
        (
            NetworkPolicy(
                "NetworkPolicy shop/x",
                (
                    NetworkRule(
                        "ingress[0]",
                        NetworkAction.ALLOW,
                        PeerMatch(services=frozenset({WEB}), nets=("10.0.0.0/8",)),
                        ports=(PortRange(80, 90),),
                    ),
                ),
            ),
        ),
    )
    return Snapshot(
        version="1",
        revision=7,
        workload=Workload(WEB, "cluster.local", {"app": "web"}),
        authorization=Authorization(
            ingress=(tier,),
            policies=(
                AuthorizationPolicy(
                    "AuthorizationPolicy shop/a",
                    Action.DENY,
                    (
                        AuthorizationRule(
                            "rules[0]", (Source(principals=(Exact("x"),)),), (Operation(ports=(1,)),)
                        ),
                    ),
                ),
            ),
            baseline=frozenset({API, REDIS}),
            baseline_external=frozenset({8080}),
        ),
        inbound=(InboundPort(8080, Protocol.HTTP, "inbound|8080||", ingress=True),),
        outbound=(
            OutboundListener(
                "shop_web-pod",
                6379,
                Protocol.TCP,
                tcp=TcpRoute("redis.shop", (Destination("outbound|6379||redis.shop", services=(REDIS,)),)),
            ),
            OutboundListener(
                "shop_web-pod2",
                8080,
                Protocol.HTTP,
                (VirtualHost("api.shop", ("api", "shop_api"), rules),),
                "api.shop",
            ),
        ),
        clusters={
            "inbound|8080||": Cluster(
                "inbound|8080||", Protocol.HTTP, Transport.PLAIN, dns="tasks.web", dns_port=8080
            ),
            "outbound|8080||api.shop": Cluster(
                "outbound|8080||api.shop",
                Protocol.HTTP,
                Transport.MTLS,
                (Endpoint("10.0.0.9", 15443, API, "node-1"),),
            ),
            "outbound|6379||redis.shop": Cluster("outbound|6379||redis.shop", Protocol.TCP, Transport.MTLS),
        },
        denied=frozenset({"spiffe://cluster.local/ns/shop/sa/thief"}),
    )


def test_a_snapshot_survives_json():
    """encode → JSON text → decode gives an equal value."""
    assert decode_snapshot(json.loads(json.dumps(encode(snapshot())))) == snapshot()


def test_union_members_carry_their_kind():
    """A reader tells a redirect from a direct response by `kind`."""
    rules = encode(snapshot())["outbound"][1]["virtual_hosts"][0]["rules"]
    assert [rule["action"]["kind"] for rule in rules] == ["Forward", "Redirect", "DirectResponse"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revison": 1}, r"\$\.revison: unknown key"),
        ({"revision": "7"}, r"\$\.revision: int is needed"),
        ({"revision": True}, r"\$\.revision: int is needed"),
        ({"workload": {"name": "web", "trust_domain": "x"}}, r"\$\.workload\.name: 'web' is no service"),
        ({"inbound": {}}, r"\$\.inbound: a list is needed"),
        ({"inbound": [{"port": 1, "protocol": "htp", "cluster": "x"}]}, r"\$\.inbound\[0\]\.protocol"),
        ({"clusters": {}}, r"\$\.clusters: 'inbound\|8080\|\|' is named"),
    ],
)
def test_what_is_no_snapshot_is_refused_by_path(change, message):
    """Every refusal names the JSON path of what is wrong."""
    with pytest.raises(WireError, match=message):
        decode_snapshot({**encode(snapshot()), **change})


def test_an_unknown_kind_is_refused():
    """A route action of no known kind is not skipped."""
    printed = encode(snapshot())
    printed["outbound"][1]["virtual_hosts"][0]["rules"][0]["action"]["kind"] = "Mirror"
    with pytest.raises(WireError, match="'Mirror' is none of Forward, Redirect, DirectResponse"):
        decode_snapshot(printed)


def test_a_missing_key_is_refused():
    """A field without a default must be there."""
    with pytest.raises(WireError, match=r"\$\.cluster: is missing"):
        decode(InboundPort, {"port": 1, "protocol": "http"})


def test_a_delta_holds_only_what_changed_and_applies():
    """One changed endpoint travels as one cluster."""
    old = encode(snapshot())
    new = json.loads(json.dumps(old))
    new["version"] = "2"
    new["clusters"]["outbound|8080||api.shop"]["endpoints"][0]["address"] = "10.0.0.10"
    del new["denied"]
    change = delta(old, new)
    assert list(change["set"]) == ["clusters/outbound|8080||api.shop"]
    assert change["remove"] == ["denied"]
    assert decode_snapshot(apply_delta(old, change)) == decode_snapshot(new)


def test_a_delta_from_nothing_is_the_whole():
    """A fresh sidecar gets everything in one change."""
    whole = encode(snapshot())
    assert decode_snapshot(apply_delta(None, delta(None, whole))) == snapshot()


def test_a_delta_for_another_base_is_refused():
    """A sidecar that missed a change does not apply the next one."""
    whole = encode(snapshot())
    with pytest.raises(WireError, match="the delta is for 1, held is"):
        apply_delta(None, delta(whole, {**whole, "version": "2"}))


def test_the_version_is_the_content():
    """Two compilations of the same content have one version, whatever version they carry."""
    whole = encode(snapshot())
    assert version_of(whole) == version_of({**whole, "version": "other"})
    assert version_of(whole) != version_of({**whole, "revision": 8})


def test_the_server_name_carries_the_port():
    """SNI names the target; what is not of the form names no port."""
    assert port_of_sni(mesh_sni(API, 8080)) == 8080
    for foreign in (
        "",
        "api.shop.mesh",
        "p.api.shop.mesh",
        "p0.api.shop.mesh",
        "p70000.a.b.mesh",
        "p80.example.com",
    ):
        assert port_of_sni(foreign) is None
