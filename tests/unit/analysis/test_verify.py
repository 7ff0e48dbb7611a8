"""Invariants: read strictly, proved for all requests, refuted by one that a user can ask about."""

import pytest

from meshpy.analysis.invariants import Word, read_invariants
from meshpy.analysis.verify import unknown_parties, verify
from meshpy.compile import compile_mesh
from meshpy.errors import DocumentError
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Inventory, Port
from tests.helpers.policies import document, loaded, service, shop
from tests.helpers.random_policies import Dice, compiled


def read(text):
    return read_invariants([("i.txt", text)], "shop")


def proof(line, *texts, inventory=None):
    stock = inventory or shop()
    snapshots = compile_mesh(stock, loaded(*texts), trust_domain="cluster.local", revision=0)
    (found,) = verify(snapshots, stock, read(line))
    return found


def authorization(spec, name="p"):
    return document("AuthorizationPolicy", spec, name)


ONLY_WEB = authorization(
    "selector: {matchLabels: {app: api}}\nrules: [{from: [{source: {serviceAccounts: [web]}}],"
    " to: [{operation: {methods: [GET]}}]}]"
)
CLOSED = document(
    "NetworkPolicy",
    "selector: app == 'redis'\ntypes: [Ingress]\n"
    "ingress: [{action: Allow, protocol: TCP, source: {selector: app == 'api'}}]",
    "n",
)


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        ("only: web -> api", True),
        ("only: web -> api GET", True),
        ("only: report -> api", False),
        ("never: web -> api DELETE /v1/*", True),
        ("never: web -> api GET /v1/*", False),
        ("never: web -> api /v1/x", False),
        ("never: catalog-v1 -> api", True),
        ("never: * -> api POST", True),
        ("never: shop/* -> api:8080", False),
        ("never: shop/* -> api:81", True),
        ("never: outside -> api", True),
        ("never: external -> web", False),
        ("always: web -> api GET", True),
        ("always: web -> api", False),
        ("only: api -> redis:6379", True),
        ("only: web -> redis", False),
        ("never: web -> redis", True),
    ],
)
def test_an_invariant_is_proved_or_refuted(line, holds):
    found = proof(line, ONLY_WEB, CLOSED)
    assert found.holds is holds, found
    assert (found.witness is None) is holds


def test_a_refutation_names_the_request_and_why():
    found = proof("never: web -> api GET /v1/*", ONLY_WEB)
    assert str(found.witness) == "shop/web → api.shop:8080 GET /v1/"
    assert "AuthorizationPolicy shop/p rules[0] allows it" in found.why


def test_the_path_of_an_invariant_is_what_the_destination_receives():
    rewrite = document(
        "VirtualService",
        "hosts: [api]\nhttp:\n- match: [{uri: {prefix: /in/}}]\n  rewrite: {uri: /admin/}\n"
        "  route: [{destination: {host: api}}]\n- route: [{destination: {host: api}}]",
        "v",
    )
    guard = authorization(
        "selector: {matchLabels: {app: api}}\naction: DENY\nrules: [{to: [{operation: {paths: [/admin/*]}}]}]"
    )
    assert proof("never: web -> api /admin/*", rewrite, guard).holds is True
    found = proof("never: web -> api /admin/*", rewrite)
    assert found.holds is False
    assert proof("never: web -> api /in/*", rewrite).holds is True


def test_what_cannot_be_cut_into_classes_is_not_called_proved():
    odd = document(
        "VirtualService",
        "hosts: [api]\nhttp:\n- match: [{uri: {regex: '/\\bx.*'}}]\n  route: [{destination: {host: api}}]\n"
        "- route: [{destination: {host: api}}]",
        "v",
    )
    found = proof("never: web -> api DELETE", ONLY_WEB, odd)
    assert found.holds is None
    assert "\\bx" in found.why


def test_always_mtls_is_about_calls_between_services():
    assert proof("always: mtls").holds is True  # web is published, and says so
    outside = service("cron", ports=(Port(80, Protocol.HTTP),), exempt="it mounts docker.sock")
    stock = shop(outside)
    found = proof("always: mtls", inventory=stock)
    assert found.holds is False
    assert "plaintext" in found.why
    refused = proof("always: mtls -> api", inventory=stock)
    assert refused.holds is False  # cron sits on api's network and has no identity
    assert "without identity" in refused.why


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("maybe: web -> api", "is no invariant"),
        ("web -> api", "is no invariant"),
        ("never: web", "names no two ends"),
        ("never: web -> api -> db", "names no two ends"),
        ("never: web:80 -> api", "has a port that cannot be"),
        ("never: web -> api:99999", "has a port that cannot be"),
        ("never: web -> a/b/c", "is no service"),
        ("never: web -> api get /x", "is no request"),
        ("never: web -> api GET x", "matches no path"),
        ("never: web -> api GET /{a}", "is no path template"),
        ("never: web -> api GET /x y", "is no request"),
        ("always: mtls web", "cannot follow mtls"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line, what):
    with pytest.raises(DocumentError) as caught:
        read(f"# comment\n\n  {line}   # another\n")
    problem = caught.value.problems[0]
    assert (problem.place.file, problem.place.line, problem.place.column) == ("i.txt", 3, 3)
    assert what in problem.what
    assert problem.instead


def test_a_file_without_an_invariant_is_a_mistake():
    with pytest.raises(DocumentError, match="has no invariant"):
        read("# never: web -> db\n")


def test_names_that_are_no_service_are_told():
    (line,) = read("never: web, wbe -> shop/dbb")
    assert unknown_parties(line, shop()) == ["shop/wbe", "shop/dbb"]
    assert line.word is Word.NEVER
    assert isinstance(shop(), Inventory)


def test_what_is_proved_no_random_request_breaks():
    """never: S -> D METHOD /prefix* over random policy sets, against the engine itself."""
    from meshpy.analysis.flows import flows
    from meshpy.engine.prepared import Prepared

    broken = 0
    for seed in range(4):
        dice = Dice(seed)
        snapshots = compiled(dice.documents())
        line = f"never: {dice.one(['web', 'shop/*', '*'])} -> {dice.one(['api', 'catalog-v1'])} GET /a*"
        (found,) = verify(snapshots, shop(), read(line))
        destination = found.invariant.destination.name
        every = list(flows(Prepared(snapshots, with_steps=False), Prepared(snapshots)))
        for _ in range(150):
            flow = dice.one(every)
            request = dice.request(flow.host)
            caller = flow.caller.service
            source = found.invariant.sources[0]
            if not source.is_anybody and (caller is None or flow.caller.is_stranger):
                continue
            if not source.is_anybody and not source.is_service(caller.namespace, caller.name):
                continue
            answer = flow.old(request)
            path = (answer.route or {}).get("rewritten_path") or request.path
            legs = [x for x in answer.legs if x.service and x.service.name == destination]
            if request.method == "GET" and path.startswith("/a") and any(x.verdict.allowed for x in legs):
                broken += 1
                assert found.holds is not True, (line, flow.caller, request)
    assert broken
