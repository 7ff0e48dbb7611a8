"""What sidecars write down: shapes, modes, redaction, flows; and what they still know when they are asked."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from dataclasses import replace

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Operation,
)
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.match import Exact
from meshpy.model.route import Destination, TcpRoute
from meshpy.model.tap import TapFilter
from proxy.access_log import AccessLog
from proxy.log_shape import LogOptions, LogShape, end_point, without_empty
from proxy.look import answer, read_question
from proxy.options import OptionsError, read_options
from tests.helpers.backends import backend, ok, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    Client,
    inbound_snapshot,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)
from tests.integration.proxy.test_pair import DENY_ALL, mesh_cluster

SECRETS = "Authorization: Bearer s3cret\r\nCookie: session=s3cret\r\nX-Api-Key: s3cret\r\n"
ANSWERS = {"/bad": ok(b"", "500 Internal Server Error"), "/missing": ok(b"", "404 Not Found")}


async def logged(pki, tmp_path, paths, options, headers="", snapshot=None):
    """The lines of the sidecar that is called without a mesh, for these paths."""
    file = tmp_path / "access.log"
    log = AccessLog.open(str(file))
    port = free_port()
    async with backend(lambda request: ANSWERS.get(request.target.partition("?")[0], ok(b"fine"))) as app:
        snapshot = outbound_snapshot(
            port, {"c": plain_cluster(app.port, name="c")}, (route("c", name="all"),)
        )
        async with running(snapshot, pki, log=log, log_options=options), await Client.connect(port) as client:
            for path in paths:
                await client.get(path, headers=headers)
    return file.read_text().splitlines()


@pytest.mark.parametrize("shape", LogShape)
async def test_no_shape_tells_values_of_queries_credentials_or_cookies(pki, tmp_path, shape):
    (line,) = await logged(pki, tmp_path, ["/items?token=s3cret&s3cret"], LogOptions(shape), SECRETS)
    assert "s3cret" not in line
    assert "token=REDACTED&REDACTED" in line
    assert "/items" in line


async def test_queries_are_told_where_the_operator_says_so(pki, tmp_path):
    (line,) = await logged(pki, tmp_path, ["/items?a=1"], LogOptions(is_redacted=False))
    assert json.loads(line)["path"] == "/items?a=1"


async def test_ecs_has_the_names_of_the_schema_and_no_empty_field(pki, tmp_path):
    (line,) = await logged(pki, tmp_path, ["/bad?x=1"], LogOptions(LogShape.ECS), "User-Agent: curl/8\r\n")
    found = json.loads(line)
    assert found["ecs"]["version"].startswith("8.")
    assert found["@timestamp"].endswith("Z")
    assert found["http"]["request"]["method"] == "GET"
    assert found["http"]["response"]["status_code"] == 500
    assert found["url"] == {"path": "/bad", "query": "x=REDACTED", "domain": "api"}
    assert found["source"] == {"address": LOOPBACK, "ip": LOOPBACK}
    assert (found["destination"]["ip"], type(found["destination"]["port"])) == (LOOPBACK, int)
    assert found["event"]["outcome"] == "failure"
    assert found["event"]["duration"] > 0
    assert found["user_agent"]["original"] == "curl/8"
    assert len(found["trace"]["id"]) == 32
    assert found["meshpy"]["source"] == "shop/web"
    assert '""' not in line


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.7:8080", {"address": "10.0.0.7", "ip": "10.0.0.7", "port": 8080}),
        ("[fd00::7]:8080", {"address": "fd00::7", "ip": "fd00::7", "port": 8080}),
        ("fd00::7", {"address": "fd00::7", "ip": "fd00::7"}),
        ("api.shop:80", {"address": "api.shop", "port": 80}),
        ("a:b", {"address": "a:b"}),
        ("", {}),
    ],
)
def test_ecs_tells_address_and_port_apart(text, found):
    assert without_empty(dict(end_point(text))) == found


async def tunnelled(pki, tmp_path, options, *, has_app=True):
    """The lines of the caller's sidecar for one opaque connection."""

    async def echo(reader, writer):
        writer.write(await reader.read(100))

    file, port = tmp_path / "tcp.log", free_port()
    log = AccessLog.open(str(file))
    async with raw_server(echo) as app:
        target = app if has_app else free_port()
        cluster = plain_cluster(target, name="c", protocol=Protocol.TCP)
        snapshot = outbound_snapshot(port, {"c": cluster}, tcp=TcpRoute("api.shop", (Destination("c"),)))
        async with running(snapshot, pki, log=log, log_options=options):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(b"ping")
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
    return file.read_text().splitlines()


async def test_an_opaque_connection_is_told_in_the_shape_that_was_asked_for(pki, tmp_path):
    (envoy,) = await tunnelled(pki, tmp_path, LogOptions())
    assert json.loads(envoy)["protocol"] == "TCP"
    (tmp_path / "tcp.log").unlink()
    (ecs,) = await tunnelled(pki, tmp_path, LogOptions(LogShape.ECS))
    found = json.loads(ecs)
    assert (found["event"]["category"], found["event"]["type"]) == (["network"], ["connection"])
    assert (found["event"]["outcome"], found["event"]["action"]) == ("success", "forwarded")
    assert (found["source"]["bytes"], found["destination"]["bytes"], found["network"]["bytes"]) == (4, 4, 8)
    assert found["meshpy"]["source"] == "shop/web"
    assert '""' not in ecs
    (tmp_path / "tcp.log").unlink()
    (loki,) = await tunnelled(pki, tmp_path, LogOptions(LogShape.LOKI))
    pairs = dict(pair.partition("=")[::2] for pair in shlex.split(loki))
    assert (pairs["protocol"], pairs["verdict"], pairs["bytes_sent"]) == ("tcp", "FORWARDED", "4")


@pytest.mark.parametrize("shape", LogShape)
async def test_in_the_mode_of_errors_an_opaque_connection_is_told_only_when_it_failed(pki, tmp_path, shape):
    assert await tunnelled(pki, tmp_path, LogOptions(shape, kept_pct=0)) == []
    (line,) = await tunnelled(pki, tmp_path, LogOptions(shape, kept_pct=0), has_app=False)
    assert "UF" in line


async def test_loki_gets_logfmt_that_nobody_adds_fields_to(pki, tmp_path):
    agent = 'User-Agent: a" verdict=DENIED \\\r\n'
    (line,) = await logged(pki, tmp_path, ["/x"], LogOptions(LogShape.LOKI), agent)
    words = shlex.split(line)
    fields = [word.partition("=")[::2] for word in words]
    assert [value for name, value in fields if name == "verdict"] == ["FORWARDED"]
    assert dict(fields)["status"] == "200"
    assert dict(fields)["user_agent"].startswith('a" verdict')


async def test_errors_only_and_sampled_modes(pki, tmp_path):
    paths = ["/fine", "/bad", "/missing", "/fine"]
    lines = await logged(pki, tmp_path, paths, LogOptions(kept_pct=0))
    assert [json.loads(line)["path"] for line in lines] == ["/bad", "/missing"]
    (tmp_path / "access.log").unlink()
    low = f"traceparent: 00-{'a' * 8}{'0' * 24}-{'b' * 16}-00\r\n"
    assert len(await logged(pki, tmp_path, ["/fine"], LogOptions(kept_pct=1), low)) == 1
    (tmp_path / "access.log").unlink()
    high = low.replace("0" * 24, "f" * 24)
    assert await logged(pki, tmp_path, ["/fine"], LogOptions(kept_pct=1), high) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MESHPY_ACCESS_LOG_FORMAT", "gelf"),
        ("MESHPY_ACCESS_LOG_MODE", "some"),
        ("MESHPY_ACCESS_LOG_MODE", "sampled:101"),
        ("MESHPY_ACCESS_LOG_REDACT", "no"),
    ],
)
def test_what_a_variable_cannot_be_is_refused(name, value):
    with pytest.raises(OptionsError, match=name):
        read_options(["--snapshot", "s", "--identity", "i"], {name: value})


def test_variables_choose_shape_and_mode():
    env = {"MESHPY_ACCESS_LOG_FORMAT": "ecs", "MESHPY_ACCESS_LOG_MODE": "sampled:2.5"}
    found = read_options(["--snapshot", "s", "--identity", "i"], env).log
    assert (found.shape, found.kept_pct, found.is_redacted) == (LogShape.ECS, 2.5, True)


def audited() -> Authorization:
    rule = AuthorizationRule("rules[0]", operations=(Operation(paths=(Exact("/audited"),)),))
    policy = AuthorizationPolicy("AuthorizationPolicy shop/watch", Action.AUDIT, (rule,))
    return Authorization(policies=(policy,), baseline=frozenset({WEB}))


async def test_flows_are_summed_by_verdict(pki, tmp_path):
    file = tmp_path / "flows"
    port, mesh_port = free_port(), free_port()
    async with backend() as app:
        callee = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),), authorization=audited())
        caller = outbound_snapshot(port, {"c": mesh_cluster(mesh_port)})
        async with (
            running(callee, pki, mesh_port=mesh_port, flow_log=AccessLog.open(str(file))) as api,
            running(caller, pki),
            await Client.connect(port) as client,
        ):
            for path in ("/a", "/audited", "/b"):
                assert (await client.get(path)).status == 200
            api.flows.flush()
            await api.apply(replace(callee, version="closed", authorization=DENY_ALL))
            assert (await client.get("/a")).status == 403
    flows = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(flow["verdict"], flow["flows"], flow.get("policy")) for flow in flows]
    assert told == [
        ("FORWARDED", 3, None),
        ("AUDIT", 1, "AuthorizationPolicy shop/watch rules[0]"),
        ("DENIED", 1, "NetworkPolicy default/deny-all"),
    ]
    assert {(flow["source"], flow["destination"], flow["mtls"]) for flow in flows} == {
        ("shop/web", "shop/api", True)
    }
    assert os.stat(file).st_mode & 0o777 == 0o640


async def test_what_a_policy_only_notices_is_a_verdict_of_tap_log_and_span(pki, tmp_path):
    file = tmp_path / "access.log"
    port, mesh_port = free_port(), free_port()
    async with backend() as app:
        callee = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),), authorization=audited())
        caller = outbound_snapshot(port, {"c": mesh_cluster(mesh_port)})
        async with (
            running(callee, pki, mesh_port=mesh_port, log=AccessLog.open(str(file))) as api,
            running(caller, pki) as web,
            await Client.connect(port) as client,
        ):
            api.tap.ask((TapFilter(verdict="AUDIT"),), 10)
            web.shared.ids.sample(100.0)
            for path in ("/a", "/audited", "/b"):
                await client.get(path)
            (told,) = api.tap.take()
            looked = answer(api.recent, read_question({"id": 1, "filter": {"verdict": "AUDIT"}}))
            others = answer(api.recent, read_question({"id": 2, "filter": {"verdict": "FORWARDED"}}))
            spans = {span["attributes"]["url.path"]: span["attributes"] for span in api.spans.take()}
    name = "AuthorizationPolicy shop/watch rules[0]"
    assert (told["path"], told["policy"], told["status"]) == ("/audited", name, 200)
    assert [each["path"] for each in looked["records"]] == ["/audited"]
    assert [each["path"] for each in others["records"]] == ["/b", "/a"]
    assert [line.get("audited") for line in map(json.loads, file.read_text().splitlines())] == [
        None,
        name,
        None,
    ]
    verdicts = {path: (each.get("meshpy.verdict"), each.get("meshpy.policy")) for path, each in spans.items()}
    assert verdicts == {"/a": (None, None), "/audited": ("AUDIT", name), "/b": (None, None)}


async def test_the_last_exchanges_are_told_by_lines_and_by_groups(pki):
    port = free_port()
    async with backend(lambda request: ANSWERS.get(request.target, ok(b"fine"))) as app:
        snapshot = outbound_snapshot(
            port, {"c": plain_cluster(app.port, name="c")}, (route("c", name="all"),)
        )
        async with running(snapshot, pki) as sidecar, await Client.connect(port) as client:
            for number in range(40):
                await client.get(f"/orders/{number}?token=s3cret", headers=SECRETS)
            await client.get("/bad")
            recent = sidecar.recent
            lines = answer(recent, read_question({"id": 1, "filter": {"path": "/orders"}, "limit": 5}))
            by_path = answer(recent, read_question({"id": 2, "by": "path"}))
            by_route = answer(recent, read_question({"id": 3, "by": "route", "filter": {"verdict": "ERROR"}}))
            nothing = answer(recent, read_question({"id": 4, "since_s": 0}))
    assert [record["path"] for record in lines["records"]] == [f"/orders/{n}" for n in range(39, 34, -1)]
    assert {(group["name"], group["count"], group["errors"]) for group in by_path["groups"]} == {
        ("/orders/{*}", 40, 0),
        ("/bad", 1, 1),
    }
    assert [(group["name"], group["count"]) for group in by_route["groups"]] == [("all", 1)]
    assert nothing["records"] == []
    assert "s3cret" not in json.dumps([lines, by_path])
    with pytest.raises(ValueError, match="not known"):
        read_question({"id": 1, "by": "colour"})
    assert read_question({"id": 1}).wanted == TapFilter()
