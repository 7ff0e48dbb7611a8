"""What a service may reach through its gateway: compiled for both, and again when either changes."""

from dataclasses import replace

from meshpy.compile import compile_mesh
from meshpy.compile.changed import Inputs, compile_changed
from meshpy.model.endpoint import Endpoint, Protocol, Transport
from meshpy.model.gateway import GatewayGrant
from meshpy.model.inventory import EgressHost, Inventory, Service
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet
from meshpy.wire import decode_snapshot, encode
from tests.helpers.policies import loaded

GATEWAY, API, WEB = (ServiceName(*name) for name in (("out", "gw"), ("shop", "api"), ("shop", "web")))
AT = Endpoint("10.201.0.9", 15443, GATEWAY, "node-1")
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec:
  hosts: [db.example.com]
  resolution: STATIC
  ports: [{number: 5432, name: tcp, protocol: TCP, targetPort: 6432}]
  endpoints: [{address: 203.0.113.20}]
"""


def services(**changes) -> Inventory:
    api = Service(
        API,
        egress=(
            EgressHost("api.test", 443, Protocol.TLS),
            EgressHost("db.example.com", 5432, Protocol.TCP),
        ),
        gateway=GATEWAY,
        patterns=("*.github.com:443",),
        outside={"api.test": ("203.0.113.7",)},
    )
    web = Service(WEB, gateway=GATEWAY, outbound="ALLOW_ANY")
    found = {
        GATEWAY: Service(GATEWAY, is_gateway=True, endpoints=(AT,)),
        API: replace(api, **changes),
        WEB: web,
    }
    return Inventory(found)


def compiled(inventory: Inventory, policies: PolicySet):
    found = compile_mesh(inventory, policies, trust_domain="mesh.test", revision=1)
    return {name: decode_snapshot(encode(each)) for name, each in found.items()}


def test_a_callers_clusters_lead_to_the_gateway_and_keep_the_hosts_addresses_for_its_rules() -> None:
    api = compiled(services(), loaded(ENTRY))[API]
    named, stated = (api.clusters[f"outbound|{tail}"] for tail in ("443||api.test", "5432||db.example.com"))
    for cluster in (named, stated):
        assert cluster.transport is Transport.GATEWAY
        assert [(e.address, e.workload) for e in cluster.endpoints] == [(AT.address, GATEWAY)]
        assert cluster.dns == ""
    assert (named.sni, named.stands_for) == ("p443.api.test._outside.mesh", ("203.0.113.7",))
    assert stated.stands_for == ("203.0.113.20",)
    assert api.egress_gateway == "outbound|15443||gw.out"
    assert api.egress_gateway in api.clusters


def test_the_gateway_is_told_who_may_reach_what_and_where_entries_say_it_is() -> None:
    gateway = compiled(services(), loaded(ENTRY))[GATEWAY]
    assert set(gateway.gateway) == {
        GatewayGrant("api.test", 443, frozenset({API})),
        GatewayGrant("db.example.com", 5432, frozenset({API, WEB}), (("203.0.113.20", 6432),)),
        GatewayGrant("*.github.com", 443, frozenset({API})),
        GatewayGrant("*", 0, frozenset({WEB})),
    }
    assert gateway.authorization.baseline == {API, WEB}


def test_a_service_that_is_no_gateway_gets_nothing_and_its_callers_reach_nothing() -> None:
    inventory = services()
    plain = {**inventory.services, GATEWAY: replace(inventory.services[GATEWAY], is_gateway=False)}
    found = compiled(Inventory(plain), PolicySet())
    assert found[GATEWAY].gateway == ()
    cluster = found[API].clusters["outbound|443||api.test"]
    assert (cluster.transport, cluster.endpoints) == (Transport.GATEWAY, ())


def test_egress_rules_of_callers_go_with_their_grants() -> None:
    policy = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: only-api, namespace: shop}
spec:
  selector: service == 'api'
  types: [Egress]
  egress: [{action: Allow, destination: {domains: [api.test]}}]
"""
    found = compiled(services(), loaded(policy))[GATEWAY].callers
    assert list(found) == [str(API)]
    assert found[str(API)].egress


def test_both_are_compiled_again_when_the_other_changes() -> None:
    def inputs(inventory: Inventory) -> Inputs:
        return Inputs(inventory, policies, "mesh.test", frozenset(), {})

    policies = PolicySet()
    before, _ = compile_changed(None, inputs(services()), revision=1)
    more = (EgressHost("new.test", 80, Protocol.HTTP),)
    after = services()
    changed = replace(after.services[API], egress=more)
    same = before.inputs.inventory.services
    found = compile_changed(before, inputs(Inventory({**same, API: changed})), revision=1)[1]
    assert GATEWAY in found
    assert GatewayGrant("new.test", 80, frozenset({API})) in found[GATEWAY].gateway
    moved = replace(same[GATEWAY], endpoints=(replace(AT, address="10.201.0.10"),))
    found = compile_changed(before, inputs(Inventory({**same, GATEWAY: moved})), revision=1)[1]
    assert {API, WEB} <= found.keys()
