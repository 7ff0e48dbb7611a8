"""Recordings: what the sidecars' log says, replayed, generalised, and turned into policies that allow it."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshpy.analysis.coverage import coverage
from meshpy.analysis.recording import read_recording
from meshpy.analysis.replay import replay
from meshpy.analysis.suggest import Observed, Sighting, Threshold, suggest
from meshpy.analysis.templates import templates_of
from meshpy.analysis.used import calls_of, last_used, outside_rules
from meshpy.compile import compile_mesh
from meshpy.engine.explain import Source, explain
from meshpy.engine.request import Request
from meshpy.model.names import ServiceName
from proxy.access_log import AccessLog, Line
from tests.helpers.policies import document, loaded, shop

ROOT = Path(__file__).parents[3]
HOUR = 3600.0
WEB = "cluster.local/ns/shop/sa/web"


def mesh(*texts):
    return compile_mesh(shop(), loaded(*texts), trust_domain="cluster.local", revision=0)


def http(_tmp_path, *requests):
    """Lines with the keys of the sidecar's log."""
    return [_line(*request) for request in requests]


def _line(started, principal, sni, method, target, stage):
    start = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return json.dumps(
        {
            "start_time": start,
            "direction": "inbound",
            "method": method,
            "path": target,
            "protocol": "HTTP/1.1",
            "response_code": 403 if stage else 200,
            "user_agent": "curl",
            "authority": "api:8080",
            "upstream_cluster": "inbound|8080||",
            "downstream_local_address": "10.0.0.1:15443",
            "downstream_remote_address": "10.0.0.9:4000",
            "requested_server_name": sni,
            "principal": principal,
            "policy": "AuthorizationPolicy shop/x" if stage else "",
            "rule": "",
            "stage": stage,
        }
    )


def test_the_keys_that_are_read_are_those_that_the_sidecar_writes():
    written = "".join((ROOT / "proxy" / name).read_text() for name in ("report.py", "access_log.py"))
    for key in json.loads(_line(*entry(1, "/"))):
        assert f'"{key}":' in written, key
    for key in ("x_forwarded_for", "request_id"):
        assert f'"{key}":' in written, key


def entry(at, target, method="GET", principal=WEB, sni="p8080.api.shop.mesh", stage=""):
    return at, principal, sni, method, target, stage


def authorization(spec, name="p"):
    return document("AuthorizationPolicy", spec, name)


READS = "selector: {matchLabels: {app: api}}\nrules: [{to: [{operation: {methods: [GET]}}]}]"


def test_the_sidecars_own_lines_are_read(tmp_path):
    lines = http(tmp_path, entry(2.5, "/b/../a?x=1"), entry(1.0, "/x", principal="", stage="deny"))
    found = read_recording(["noise", *lines], mesh())
    assert [(e.caller, str(e.destination), e.port, e.method, e.path, e.query) for e in found.entries] == [
        ("outside", "shop/api", 8080, "GET", "/x", ""),
        ("shop/web", "shop/api", 8080, "GET", "/a", "x=1"),
    ]
    assert [e.allowed for e in found.entries] == [False, True]
    assert found.span_s == 1.5
    assert found.skipped == {"no access log line": 1}


def test_names_of_docker_service_logs_tell_the_callee_of_callers_from_outside(tmp_path):
    (line,) = http(tmp_path, entry(1.0, "/", principal="", sni=""))
    assert not read_recording([line], mesh()).entries
    prefix = "shop_web-sidecar.2.x7y8z9@node-1    | "
    (found,) = read_recording([prefix + line], mesh()).entries
    assert (str(found.destination), found.port) == ("shop/web", 8080)


def test_an_opaque_connection_is_an_entry_without_a_request(tmp_path):
    path = tmp_path / "tcp.log"
    log = AccessLog(os.open(path, os.O_WRONLY | os.O_CREAT))
    fields = dict.fromkeys(Line._fields, "")
    fields |= {"direction": "inbound", "server_name": "p6379.redis.shop.mesh", "principal": WEB}
    fields |= {"bytes_received": 0, "bytes_sent": 0, "duration_ms": 0}
    log.tcp(Line(**fields), started=1.0)
    log.close()
    (found,) = read_recording(path.read_text().splitlines(), mesh()).entries
    assert (str(found.destination), found.port, found.method) == ("shop/redis", 6379, "")


def test_replay_counts_what_changes_by_edge_and_rule(tmp_path):
    lines = http(
        tmp_path, entry(1, "/a"), entry(2, "/a", "POST"), entry(3, "/b", "POST"), entry(4, "/c", stage="deny")
    )
    candidate = mesh(authorization(READS))
    rows = list(replay(read_recording(lines, candidate), candidate).rows.values())
    assert [(r.change, r.count, r.by, r.example) for r in rows] == [
        ("newly denied", 2, "AuthorizationPolicy shop/p", "POST /a"),
        ("newly allowed", 1, "AuthorizationPolicy shop/p rules[0]", "GET /c"),
    ]


def test_what_the_log_does_not_hold_is_uncertain_not_guessed(tmp_path):
    when = "[{key: 'request.headers[x-team]', values: [ops]}]"
    asks = f"selector: {{matchLabels: {{app: api}}}}\nrules: [{{when: {when}}}]"
    candidate = mesh(authorization(asks))
    found = replay(read_recording(http(tmp_path, entry(1, "/a")), candidate), candidate)
    (row,) = found.rows.values()
    assert (row.change, row.by) == ("uncertain", "header x-team (not in the log)")
    assert found.changed == 0


def test_last_used_names_the_rule_that_decided(tmp_path):
    candidate = mesh(authorization(READS))
    read = read_recording(http(tmp_path, entry(1, "/a"), entry(9, "/b")), candidate)
    used = last_used(calls_of(read), candidate)
    assert used["AuthorizationPolicy shop/p", "rules[0]"] == 9.0


NETWORK = """
selector: app == 'api'
tier: first
ingress:
- {action: Deny, protocol: TCP, destination: {ports: [81]}}
- {action: Pass, source: {selector: app == 'web'}}
"""
EGRESS = """
selector: app == 'web'
types: [Egress]
egress:
- {action: Allow, destination: {selector: app == 'api'}}
- {action: Allow, destination: {nets: [192.0.2.0/24]}}
- {action: Allow}
"""


def test_rules_on_the_way_to_the_decider_are_used_too(tmp_path):
    """A Pass, an Allow of the network stage and the caller's own egress rule, none of which the log names."""
    documents = (
        document("Tier", "{order: 1}", "first"),
        document("NetworkPolicy", NETWORK, "pass"),
        document("NetworkPolicy", "selector: app == 'api'\ningress: [{action: Allow}]", "open"),
        document("NetworkPolicy", EGRESS, "out"),
        authorization(READS),
    )
    candidate = mesh(*documents)
    used = last_used(calls_of(read_recording(http(tmp_path, entry(1, "/a")), candidate)), candidate)
    assert set(used) == {
        ("NetworkPolicy shop/pass", "ingress[1]"),
        ("NetworkPolicy shop/open", "ingress[0]"),
        ("NetworkPolicy shop/out", "egress[0]"),
        ("AuthorizationPolicy shop/p", "rules[0]"),
    }
    assert outside_rules(loaded(*documents)) == {("NetworkPolicy shop/out", "egress[1]")}


def test_what_was_lost_keeps_a_callee_from_being_stable():
    api, web = ServiceName("shop", "api"), ServiceName("shop", "web")
    seen = (
        Sighting(web, api, 8080, "GET", "/p/{*}", 900, 0.0),
        Sighting(None, api, 8080, "GET", "/", 5, 1.0),
    )
    watched = {api: 25 * HOUR}
    for lost, state in (({}, "stable"), ({api: 95}, "stabilizing")):
        (found,) = suggest(Observed(seen, watched, 25 * HOUR, lost), Threshold())
        assert (found.state, found.requests, found.outside) == (state, 905, 5)
        assert found.confidence == pytest.approx(905 / (905 + sum(lost.values())))
        assert 'paths: ["/p/{*}"]' in found.document()


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (["/a", "/b/c"], ["/a", "/b/c"]),
        (["/p/1", "/p/22", "/p/new"], ["/p/new", "/p/{*}"]),
        (["/o/1/items", "/o/2/items", "/o/2"], ["/o/{*}", "/o/{*}/items"]),
        (["/u/0b8f3a52-2f5b-4a6e-9d3f-1a2b3c4d5e6f"], ["/u/{*}"]),
        (["/blob/9f86d081884c7d65"], ["/blob/{*}"]),
        (["/v1/x", "/v2/x"], ["/v1/x", "/v2/x"]),
        ([f"/users/{name}" for name in "abcdefghij"], ["/users/{*}"]),
        ([f"/users/{name}" for name in "abcdefghi"], sorted(f"/users/{name}" for name in "abcdefghi")),
        ([f"/{name}" for name in "abcdefghijkl"], sorted(f"/{name}" for name in "abcdefghijkl")),
        (["/", "/a/"], ["/", "/a/"]),
    ],
)
def test_paths_are_generalised_where_the_evidence_calls_for_it(paths, wanted):
    found = templates_of(paths)
    assert [template.text for template in found] == wanted
    assert all(bool(template.merged) is ("{*}" in template.text) for template in found)


def test_words_that_differ_in_what_follows_stay_words():
    """Ten names below one parent, each with paths of its own, are an API and not identifiers."""
    paths = [f"/api/{name}/{name}-list" for name in "abcdefghijkl"]
    assert [template.text for template in templates_of(paths)] == sorted(paths)


def test_the_evidence_says_what_was_merged():
    (template,) = templates_of(["/p/1", "/p/2", "/p/3", "/p/4"])
    assert template.merged == ("/p/{*}: 4 values (1, 2, 3, …)",)
    assert template.paths == 4


def recorded(tmp_path, hours=48, last=()):
    entries = [entry(n * HOUR, f"/p/{n}") for n in range(hours)]
    entries += [entry(n * HOUR + 1, "/p") for n in range(hours)]
    entries += [entry(1.0, "/orders", "POST"), *last]
    return http(tmp_path, *entries)


def test_the_suggestion_allows_what_was_seen_and_nothing_else(tmp_path):
    open_mesh = mesh()
    (found,) = suggest(Observed.of(read_recording(recorded(tmp_path), open_mesh)), Threshold(24 * HOUR, 50))
    assert found.state == "stable"
    assert found.confidence == 1.0
    staged, enforced = loaded(found.document()), loaded(found.document(staged=False))
    assert staged.authorization_policies[0].dry_run
    snapshots = compile_mesh(shop(), enforced, trust_domain="cluster.local", revision=0)

    def allowed(source, method, path):
        request = Request(method, path, "", "api", "http", {"host": ["api"]})
        return explain(snapshots, Source(ServiceName("shop", source)), "api", 8080, request).verdict.allowed

    assert allowed("web", "GET", "/p/4711")
    assert allowed("web", "POST", "/orders")
    assert not allowed("web", "POST", "/p/1")
    assert not allowed("web", "GET", "/p/1/x")
    assert not allowed("catalog-v1", "GET", "/p")


def test_a_callee_learns_then_stabilises_then_is_stable(tmp_path):
    open_mesh = mesh()
    late = [entry(47 * HOUR, "/new")]
    for lines, wanted in (
        (recorded(tmp_path, hours=3), "learning"),
        (recorded(tmp_path, last=late), "stabilizing"),
        (recorded(tmp_path), "stable"),
    ):
        (found,) = suggest(Observed.of(read_recording(lines, open_mesh)), Threshold(24 * HOUR, 50))
        assert found.state == wanted
        assert (found.confidence == 1.0) is (wanted == "stable")


def test_refused_requests_are_no_evidence(tmp_path):
    lines = http(tmp_path, entry(1, "/a", stage="deny"))
    assert suggest(Observed.of(read_recording(lines, mesh())), Threshold()) == []


def test_coverage_names_the_rules_and_routes_that_no_answer_reached():
    routes = document(
        "VirtualService",
        "hosts: [api]\nhttp:\n- match: [{uri: {prefix: /v2/}}]\n  route: [{destination: {host: api}}]\n"
        "- route: [{destination: {host: api}}]",
        "v",
    )
    policies = loaded(
        authorization(
            "selector: {matchLabels: {app: api}}\nrules:\n- to: [{operation: {methods: [GET]}}]\n"
            "- to: [{operation: {methods: [POST]}}]"
        ),
        routes,
    )
    snapshots = compile_mesh(shop(), policies, trust_domain="cluster.local", revision=0)
    request = Request("GET", "/x", "", "api", "http", {"host": ["api"]})
    answer = explain(snapshots, Source(ServiceName("shop", "web")), "api", 8080, request)
    found = coverage(policies, [answer])
    assert [(rule.subject.split("/")[1], rule.tests) for rule in found.rules] == [
        ("p rules[0]", 1),
        ("p rules[1]", 0),
        ("v http[0]", 0),
        ("v http[1]", 1),
    ]
    assert found.percent == 50.0
    assert coverage(loaded(), []).percent == 100.0
