"""What sidecars let in reaches `policy suggest --from live` and `policy unused --from live`."""

import asyncio
import json
from dataclasses import replace

import pytest

from meshpy.model.authz import Action, Authorization, AuthorizationPolicy, AuthorizationRule, Operation
from meshpy.model.endpoint import Endpoint
from meshpy.model.match import Exact
from tests.helpers.backends import backend
from tests.helpers.control_plane import API, plane
from tests.helpers.meshpy_command import meshpy
from tests.helpers.pki import mesh_pki
from tests.helpers.sidecars import LOOPBACK, WEB, Client, inbound_snapshot
from tests.integration.proxy.test_pair import pair

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  rules:
  - to: [{operation: {methods: [GET]}}]
  - to: [{operation: {methods: [DELETE]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
"""


@pytest.fixture(scope="module")
def pki():
    return mesh_pki()


async def test_a_sidecar_tells_what_it_let_in_and_by_which_rules(pki):
    rules = (AuthorizationRule("rules[0]", operations=(Operation(methods=(Exact("GET"),)),)),)
    policy = AuthorizationPolicy("AuthorizationPolicy shop/p", Action.ALLOW, rules)
    authorization = Authorization(baseline=frozenset({WEB}), policies=(policy,))
    async with backend() as app:
        snapshot = replace(inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),)), authorization=authorization)
        async with (
            pair(pki, app.port, callee=snapshot) as (port, _, web, api),
            await Client.connect(port) as client,
        ):
            for path in ("/a", "/b/../a?x=1", "/c"):
                await client.get(path)
            assert (await client.get("/a", "POST")).status == 403
        told = api.telemetry.admitted.take(api.telemetry.verdicts)
        assert web.telemetry.admitted.take({})["flows"] == []
    assert sorted(told["flows"]) == [[str(WEB), 80, "GET", "/a", 2], [str(WEB), 80, "GET", "/c", 1]]
    assert sorted(told["rules"]) == [
        ["allow", "AuthorizationPolicy shop/p", "", False, 1],
        ["allow", "AuthorizationPolicy shop/p", "rules[0]", True, 3],
    ]


async def tell(socket, *rows, rules=()):
    await socket.send_json(
        {"type": "seen", "flows": [list(row) for row in rows], "rules": list(rules), "lost": 0}
    )


async def callees(mesh, count):
    async with asyncio.timeout(5):
        while True:
            answer = (await mesh.call("GET", "/v1/flows"))[1]
            if sum(len(each["flows"]) for each in answer["callees"]) >= count:
                return answer
            await asyncio.sleep(0.02)


async def test_suggestions_and_unused_rules_come_from_the_live_mesh(tmp_path):
    suggest = ("policy", "suggest", "--from", "live", "--namespace", "shop", "--observed", "0s")
    async with plane(tmp_path) as mesh:
        code, _, err = await meshpy(mesh, *suggest)
        assert (code, "no sidecar has told" in err) == (2, True)
        await mesh.put(POLICY)
        async with mesh.stream(await mesh.enrol(API, task="a1"), task="a1") as sidecar:
            await sidecar.take()
            hit = ["allow", "AuthorizationPolicy shop/api", "rules[0]", True, 150]
            rows = [("shop/web", 8080, "GET", f"/p/{n}", 50) for n in range(3)]
            await tell(sidecar.socket, *rows, rules=[hit])
            await callees(mesh, 3)

            code, out, err = await meshpy(mesh, *suggest, "--learning")
            assert code == 0
            assert "shop/api: " in err
            assert 'paths: ["/p/{*}"]' in out
            assert 'istio.io/dry-run: "true"' in out

            code, shown, err = await meshpy(mesh, "policy", "unused", "--from", "live", "-o", "json")
            assert code == 1
            (finding,) = [each for each in json.loads(shown)["findings"] if each["code"] == "unused"]
            assert finding["subject"] == "AuthorizationPolicy shop/api rules[1]"
            assert "less than 30" in err
            (unseen,) = [each for each in json.loads(shown)["findings"] if each["code"] == "unseen"]
            assert unseen["subject"] == "AuthorizationPolicy shop/web rules[0]"

            await meshpy(mesh, "apply", "-f", "-", "--no-wait", "--no-diff", stdin=out)
            _, _, err = await meshpy(mesh, *suggest)
            assert "staged: nothing that was seen would be refused, enforce it (--enforce)" in err
            await tell(sidecar.socket, ("shop/web", 8080, "POST", "/orders", 4))
            await callees(mesh, 4)
            _, _, err = await meshpy(mesh, *suggest)
            assert "staged: would refuse shop/web POST /orders (4 requests)" in err
            enforced = out.replace('istio.io/dry-run: "true"', 'meshpy.io/note: "x"')
            await meshpy(mesh, "apply", "-f", "-", "--no-wait", "--no-diff", stdin=enforced)
            assert "; enforced" in (await meshpy(mesh, *suggest))[2]
    async with plane(tmp_path) as mesh:  # the evidence outlives a restart
        assert len((await callees(mesh, 4))["rules"]) == 1
