"""What `meshpy check` says of a Swarm, from the engine's and the control plane's documents."""

import copy
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshpy.cli.checks.bypass import BYPASS, targets_of
from meshpy.cli.checks.carriers import CARRIERS
from meshpy.cli.checks.data_plane import DATA_PLANE
from meshpy.cli.checks.engine import ENGINE, known_faults, version_of
from meshpy.cli.checks.identity import IDENTITY
from meshpy.cli.checks.installed import BEFORE, INSTALLED, skew
from meshpy.cli.checks.sending import probe_text
from meshpy.cli.checks.site import NotAsked, Site
from meshpy.cli.checks.verdict import Result, is_passed, run_checks
from meshpy.cli.control_plane_stack import SECRETS
from meshpy.cli.docker import DockerError
from meshpy.cli.main import cli
from meshpy.client import ApiError, Context
from tests.helpers.ports import free_port

ALL = (*ENGINE, *BEFORE, *CARRIERS, *INSTALLED, *IDENTITY, *DATA_PLANE, *BYPASS)
ROOT = Path(__file__).parents[4]
NOW = datetime.now(UTC)
OURS = version("swarm-meshpy")


def node(name: str, address: str, role: str = "manager") -> dict:
    return {
        "Description": {"Hostname": name, "Engine": {"EngineVersion": "26.1.5"}},
        "Spec": {"Role": role, "Availability": "active"},
        "Status": {"State": "ready", "Addr": address},
        "ManagerStatus": {"Reachability": "reachable"} if role == "manager" else None,
    }


def network(name: str, subnet: str, **more) -> dict:
    ipam = {"Config": [{"Subnet": subnet}]}
    return {"Id": f"n-{name}", "Name": name, "Scope": "swarm", "Driver": "overlay", "IPAM": ipam, **more}


def service(name: str, networks: tuple[str, ...], labels: dict[str, str] | None = None, **container) -> dict:
    stack, _, _ = name.partition("_")
    return {
        "ID": f"s-{name}",
        "Spec": {
            "Name": name,
            "Labels": {"com.docker.stack.namespace": stack, **(labels or {})},
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "vip"},
            "TaskTemplate": {
                "ContainerSpec": container,
                "Networks": [{"Target": f"n-{each}"} for each in networks],
            },
        },
    }


def task(service: str, **addresses: str) -> dict:
    attached = [
        {"Network": {"ID": f"n-{name}", "Spec": {"Name": name}}, "Addresses": [f"{address}/24"]}
        for name, address in addresses.items()
    ]
    return {
        "ServiceID": f"s-{service}",
        "Status": {"State": "running"},
        "NetworksAttachments": attached,
    }


SECRET = {"SecretName": "meshpy-join_shop_api", "File": {"Name": "meshpy-join"}}
WELL = {
    "/version": {"Version": "26.1.5", "ApiVersion": "1.45"},
    "/info": {
        "Swarm": {"ControlAvailable": True, "Cluster": {"DefaultAddrPool": ["10.0.0.0/8"], "SubnetSize": 24}}
    },
    "/nodes": [node("one", "192.0.2.1"), node("two", "192.0.2.2", "worker")],
    "/networks": [
        network("mesh", "10.201.0.0/20", Internal=True),
        network("shop_api-pod", "10.0.5.0/24", Internal=True, Options={"encrypted": "true"}),
    ],
    "/services": [
        service("mesh-system_control-plane", ("mesh",)),
        service("shop_api", ("shop_api-pod",)),
        service(
            "shop_api-sidecar",
            ("shop_api-pod", "mesh"),
            {"meshpy.workload": "api", "meshpy.pod": "shop_api-pod", "meshpy.ports": "8080/http"},
            Secrets=[SECRET],
        ),
    ],
    "/tasks": [
        task("mesh-system_control-plane", mesh="10.201.0.2"),
        task("shop_api", **{"shop_api-pod": "10.0.5.2"}),
        task("shop_api-sidecar", **{"shop_api-pod": "10.0.5.3", "mesh": "10.201.0.3"}),
    ],
    "/secrets": [{"Spec": {"Name": name}} for name in (*SECRETS, "meshpy-join_shop_api")],
    "/configs": [{"Spec": {"Name": "meshpy-ca", "Data": "cGVt"}}],
    "/v1/status": {
        "meshpy": OURS,
        "revision": 7,
        "problems": [],
        "discovery": {"source": "swarm", "problem": ""},
        "sidecars": [
            {
                "service": "shop/api",
                "node": "one",
                "state": "SYNCED",
                "reason": "",
                "meshpy": OURS,
                "certificate_not_after": (NOW + timedelta(minutes=50)).isoformat(),
            }
        ],
    },
    "/v1/bundle": {"pem": "pem"},
    "/v1/ca": {
        "leaf_ttl_s": 3600,
        "roots": [
            {
                "not_before": (NOW - timedelta(days=1)).isoformat(),
                "not_after": (NOW + timedelta(days=3000)).isoformat(),
            }
        ],
        "intermediate": {
            "not_before": (NOW - timedelta(days=1)).isoformat(),
            "not_after": (NOW + timedelta(days=300)).isoformat(),
        },
    },
}


def told(name: str, *, plain: bool = True, secret: bool = True, virtual: bool = True, ahead_s: float = 0.01):
    """What the probe on a node printed of the two nodes."""
    other = "two" if name == "one" else "one"
    own, there = {"node": name, "ahead_s": 0.0}, {"node": other, "ahead_s": ahead_s}
    reached = {
        kind: {"10.0.9.2": own, "10.0.9.3": there if works else None}
        for kind, works in (("plain", plain), ("encrypted", secret))
    }
    return {"node": name, "reached": reached, "virtual": virtual, "esp": "" if secret else "no ESP"}


def deaf(name: str) -> dict:
    """A node that gossip does not reach: it finds no task but its own."""
    heard = told(name)
    del heard["reached"]["plain"]["10.0.9.3"]
    return heard


REACHED = {
    "shop_api-pod": {"reached": {"its sidecar 10.0.5.3": "refused", "the node one": ""}, "way_out": False}
}


class Answers:
    """An engine and a control plane that answer from documents."""

    def __init__(self, documents: dict) -> None:
        self.documents = documents

    def get(self, path: str, _query: object = None):
        if path not in self.documents:
            raise DockerError("no engine")
        return self.documents[path]

    def call(self, _method: str, path: str):
        if path not in self.documents:
            raise ApiError(0, "no control plane")
        return self.documents[path]


def site(documents: dict | None = None, across=None, within=None, **more) -> Site:
    answers = Answers(WELL if documents is None else documents)
    found = Site(
        answers,
        across=lambda _: [told("one"), told("two")] if across is None else across,
        within=lambda _: REACHED if within is None else within,
        subnet="10.202.0.0/20",
        **more,
    )
    found.__dict__ |= {
        "operator": answers,
        "context": Context(token="t"),
        "control_plane_ahead_s": 0.4,
    }
    return found


def changed(path: str, change) -> dict:
    """WELL with one document changed."""
    documents = copy.deepcopy(WELL)
    change(documents[path])
    return documents


def verdict(anchor: str, looked: Site):
    """The verdict of one check, with all that it needs."""
    [found] = [each for each in run_checks(ALL, looked) if each.check.anchor == anchor]
    return found.verdict


def test_a_swarm_and_a_mesh_that_are_well_pass_every_check():
    outcomes = list(run_checks(ALL, site()))
    assert [each for each in outcomes if each.verdict.result is not Result.SUCCESS] == []
    assert is_passed(outcomes)


def without(path: str) -> dict:
    return {key: value for key, value in WELL.items() if key != path}


@pytest.mark.parametrize(
    ("anchor", "looked", "result", "says"),
    [
        ("api-version", site(changed("/version", lambda v: v.update(ApiVersion="1.40"))), "error", "1.40"),
        (
            "engine-version",
            site(changed("/nodes", lambda n: n[1]["Description"]["Engine"].update(EngineVersion="19.03.1"))),
            "error",
            "two runs 19.03.1",
        ),
        (
            "engine-faults",
            site(changed("/nodes", lambda n: n[0]["Description"]["Engine"].update(EngineVersion="20.10.24"))),
            "warning",
            "CVE-2024-29018",
        ),
        (
            "swarm-manager",
            site(changed("/info", lambda i: i.update(Swarm={"LocalNodeState": "inactive"}))),
            "error",
            "inactive",
        ),
        (
            "swarm-quorum",
            site(changed("/nodes", lambda n: n[0]["ManagerStatus"].update(Reachability="unreachable"))),
            "error",
            "0 of 1",
        ),
        (
            "nodes-ready",
            site(changed("/nodes", lambda n: n[1]["Status"].update(State="down"))),
            "warning",
            "two",
        ),
        (
            "address-overlap",
            site(changed("/networks", lambda n: n.append(network("x", "10.201.4.0/24")))),
            "error",
            "mesh 10.201.0.0/20 and x 10.201.4.0/24",
        ),
        ("probe-tasks", site(across=[told("one")]), "unknown", "two"),
        ("overlay", site(across=[told("one", plain=False), told("two")]), "error", "one -> two"),
        ("overlay", site(across=[told("two"), deaf("one")]), "error", "one did not know all 2 tasks by name"),
        ("ipvs", site(across=[told("one", virtual=False), told("two")]), "error", "IP_VS"),
        ("esp", site(across=[told("one", secret=False), told("two")]), "error", "one -> two (no ESP)"),
        ("clocks", site(across=[told("one", ahead_s=-45), told("two")]), "error", "two is -45.0 s from one"),
        (
            "mesh-network",
            site(changed("/networks", lambda n: n[0].update(Internal=False, Attachable=True))),
            "error",
            "not internal",
        ),
        (
            "mesh-size",
            site(changed("/networks", lambda n: n[0].update(IPAM={"Config": [{"Subnet": "10.9.0.0/24"}]}))),
            "error",
            "/20 or larger",
        ),
        ("mesh-secrets", site(changed("/secrets", lambda s: s.pop(3))), "error", "meshpy-join-key missing"),
        ("control-plane-runs", site(changed("/tasks", lambda t: t.pop(0))), "error", "0 of 1"),
        ("control-plane-answers", site(without("/v1/status")), "error", "no control plane"),
        (
            "discovery",
            site(changed("/v1/status", lambda s: s["discovery"].update(problem="no quorum"))),
            "error",
            "no quorum",
        ),
        (
            "discovery",
            site(changed("/v1/status", lambda s: s["discovery"].update(unread=["labels of a_b-sidecar"]))),
            "warning",
            "labels of a_b-sidecar",
        ),
        ("version-skew", site(changed("/v1/status", lambda s: s.update(meshpy="9.0.0"))), "error", "9.0.0"),
        ("trust-config", site(changed("/v1/bundle", lambda b: b.update(pem="new"))), "error", "other roots"),
        (
            "root-valid",
            site(changed("/v1/ca", lambda c: c["roots"][0].update(not_after=NOW.isoformat()))),
            "error",
            "ended",
        ),
        (
            "intermediate-valid",
            site(
                changed(
                    "/v1/ca",
                    lambda c: c["intermediate"].update(not_after=(NOW + timedelta(days=9)).isoformat()),
                )
            ),
            "warning",
            "days",
        ),
        (
            "leaves-renewed",
            site(
                changed(
                    "/v1/status",
                    lambda s: s["sidecars"][0].update(
                        certificate_not_after=(NOW + timedelta(minutes=9)).isoformat()
                    ),
                )
            ),
            "error",
            "shop/api on one",
        ),
        ("sidecars-run", site(changed("/tasks", lambda t: t.pop(2))), "error", "shop_api-sidecar: 0 of 1"),
        (
            "sidecars-sync",
            site(changed("/v1/status", lambda s: s["sidecars"][0].update(state="REJECTED", reason="why"))),
            "error",
            "REJECTED why",
        ),
        ("sidecars-sync", site(changed("/v1/status", lambda s: s["sidecars"].clear())), "error", "0 of 1"),
        (
            "sidecar-versions",
            site(changed("/v1/status", lambda s: s["sidecars"][0].update(meshpy=f"{OURS}.1"))),
            "warning",
            "1 of version",
        ),
        (
            "join-secrets",
            site(changed("/secrets", lambda s: s.pop())),
            "error",
            "meshpy-join_shop_api is gone",
        ),
        (
            "apps-alone",
            site(
                changed(
                    "/services",
                    lambda s: s[1]["Spec"]["TaskTemplate"]["Networks"].append({"Target": "n-mesh"}),
                )
            ),
            "error",
            "shop/api is also on mesh",
        ),
        (
            "apps-alone",
            site(
                changed("/services", lambda s: s[1]["Spec"]["EndpointSpec"].update(Ports=[{"TargetPort": 1}]))
            ),
            "error",
            "publishes ports past",
        ),
        (
            "apps-alone",
            site(changed("/services", lambda s: s.append(service("x_spy", ("shop_api-pod",))))),
            "error",
            "x_spy sits on shop_api-pod",
        ),
        (
            "hop-encrypted",
            site(changed("/networks", lambda n: n[1].pop("Options"))),
            "warning",
            "shop_api-pod: plain on the wire",
        ),
        (
            "bypass",
            site(within={"p": {"reached": {"its sidecar": "open", "the app x": "open"}, "way_out": True}}),
            "error",
            "p -> the app x (open); p has a way to the outside world",
        ),
        (
            "bypass",
            site(within={"p": {"reached": {"its sidecar": ""}, "way_out": False}}),
            "unknown",
            "nothing",
        ),
    ],
)
def test_what_is_wrong_is_found_and_named_with_what_to_do(anchor, looked, result, says):
    found = verdict(anchor, looked)
    assert (str(found.result), says in found.detail) == (result, True), found
    assert found.hint


def test_an_egress_gateway_needs_no_app_and_peers_of_a_group_share_a_network():
    documents = copy.deepcopy(WELL)
    gateway = {"meshpy.workload": "gateway", "meshpy.role": "egress-gateway"}
    peers = [
        service("shop_db", ("shop_db-pod", "shop_dbs-group")),
        service(
            "shop_db-sidecar",
            ("shop_db-pod", "mesh"),
            {"meshpy.workload": "db", "meshpy.pod": "shop_db-pod", "meshpy.group": "shop_dbs-group"},
        ),
    ]
    documents["/services"] += [service("out_gateway-sidecar", ("mesh",), gateway), *peers]
    pods = {"Internal": True, "Options": {"encrypted": "true"}}
    documents["/networks"] += [
        network("shop_db-pod", "10.0.6.0/24", **pods),
        network("shop_dbs-group", "10.0.7.0/24", **pods),
    ]
    assert verdict("apps-alone", site(documents)).result is Result.SUCCESS
    documents["/services"].append(service("x_spy", ("shop_dbs-group",)))
    assert "x_spy sits on shop_dbs-group" in verdict("apps-alone", site(documents)).detail


def test_what_nothing_deployed_needs_is_a_warning_and_what_the_user_gave_up_is_none():
    documents = changed("/networks", lambda n: n[1].pop("Options"))
    without_esp = [told("one", secret=False), told("two", secret=False)]
    assert verdict("esp", site(documents, across=without_esp)).result is Result.WARNING
    assert verdict("esp", site(documents, across=without_esp, is_before=True)).result is Result.ERROR
    given_up = site(documents, across=without_esp, is_before=True, plain_is_wanted=True)
    assert verdict("esp", given_up).result is Result.SUCCESS


def test_without_an_engine_nothing_is_called_well():
    looked = site({})
    outcomes = list(run_checks(ALL, looked))
    assert not is_passed(outcomes)
    well = {each.check.anchor for each in outcomes if each.verdict.result is Result.SUCCESS}
    assert well <= {"mesh-subnet", "operator-context", "operator-clock"}
    assert verdict("engine-answers", looked).result is Result.ERROR
    assert verdict("esp", looked).detail.startswith("could not be checked")


def test_what_was_not_probed_is_unknown_and_fails_the_run():
    def refuse(_site: Site):
        raise NotAsked("--no-probe")

    looked = site()
    looked._across = looked._within = refuse
    outcomes = {each.check.anchor: each.verdict for each in run_checks(ALL, looked)}
    assert outcomes["probe-tasks"].detail == "could not be checked: --no-probe"
    assert outcomes["bypass"].result is outcomes["esp"].result is Result.UNKNOWN
    assert not is_passed(list(run_checks(ALL, looked)))


def test_a_probe_tries_every_other_app_sidecar_control_plane_and_node():
    documents = changed(
        "/services",
        lambda s: s.extend(
            [
                service("shop_db", ("shop_db-pod",)),
                service("shop_db-sidecar", (), {"meshpy.workload": "db", "meshpy.pod": "shop_db-pod"}),
            ]
        ),
    )
    documents["/tasks"] = [*documents["/tasks"], task("shop_db", **{"shop_db-pod": "10.0.6.2"})]
    looked = site(documents)
    labels = [label for label, _, _ in targets_of(looked, looked.sidecars[0], "shop_api-pod")]
    assert labels == [
        "its sidecar 10.0.5.3",
        "the sidecar of shop/api at 10.201.0.3",
        "the app shop/db at 10.0.6.2",
        "the control plane at 10.201.0.2",
        "the node one at 192.0.2.1",
        "the node two at 192.0.2.2",
    ]


def test_the_probe_runs_as_text_and_tells_what_it_reached():
    given = {"targets": [["here", "127.0.0.1", free_port()]]}
    with subprocess.Popen(
        [sys.executable, "-c", probe_text(), "within", json.dumps(given)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        process.kill()
    assert line["reached"] == {"here": "refused"}


def test_the_command_fails_offline_and_prints_words_into_a_pipe(tmp_path):
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "MESHPY_CONTEXT": str(tmp_path / "none.json")}
    done = CliRunner().invoke(cli, ["check"], env=nowhere)
    assert done.exit_code == 1
    assert "XX the docker command reaches an engine" in done.output
    assert "?? encrypted networks carry packets (ESP)\n    could not be checked" in done.output
    assert done.output.endswith("Status check results are XX\n")
    as_json = json.loads(CliRunner().invoke(cli, ["check", "--pre", "-o", "json"], env=nowhere).stdout)
    assert as_json["success"] is False
    results = {check["result"] for each in as_json["categories"] for check in each["checks"]}
    assert results == {"error", "unknown", "success"}


def test_every_check_has_its_heading_in_the_docs():
    headings = re.findall(r"^### (.+)$", (ROOT / "docs/check.md").read_text(), re.MULTILINE)
    assert [each.anchor for each in ALL if each.anchor not in headings] == []
    assert len({each.anchor for each in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("text", "faults"), [("20.10.24+dfsg1", 1), ("25.0.5", 0), ("24.0.9", 1), ("29.5.0", 1), ("29.8.0", 0)]
)
def test_engines_with_known_faults_are_known(text: str, faults: int):
    assert len(list(known_faults(version_of(text)))) == faults


def test_versions_differ_by_their_first_different_number():
    assert [skew(each, "1.2.3") for each in ("1.2.3", "1.2.4", "1.3", "2.0.0", "1.2.3.1")] == [
        "",
        "patch",
        "minor",
        "major",
        "patch",
    ]
