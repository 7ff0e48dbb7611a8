"""What a task on an app's network reaches: its sidecar, and nothing else. By real connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from meshpy.cli.checks.data_plane import AGAIN, NEED, SECTION, pods_of
from meshpy.cli.checks.sending import Probes
from meshpy.cli.checks.site import Record, Site, labels_of, stack_of
from meshpy.cli.checks.verdict import Check, Verdict, failed, ok, unknown
from meshpy.cli.control_plane_stack import CONTROL_PLANE, MESH

__all__ = ["BYPASS", "send_within", "targets_of"]

AT_ONCE = 8
"""Networks that are probed side by side: a task on each costs a manager some seconds."""
MAX_TARGETS = 100
WAIT_S = 30
MESH_PORT, CONTROL_PORT, SWARM_PORT = 15443, 15012, 2377
OWN = "its sidecar"

Target = tuple[str, str, int]


def _addresses(site: Site, service: Record, network: str) -> Iterator[str]:
    for task in site.running(service):
        for each in task.get("NetworksAttachments") or ():
            if each["Network"]["Spec"]["Name"] == network:
                yield from (address.partition("/")[0] for address in each.get("Addresses") or ())


def _port(sidecar: Record) -> int:
    first = labels_of(sidecar).get("meshpy.ports", "").partition(",")[0].partition("/")[0]
    return int(first) if first.isdecimal() else 80


def targets_of(site: Site, sidecar: Record, pod: str) -> list[Target]:
    """What must not be reached from an app's network, and, first, the sidecar, which must."""
    found: list[Target] = [(f"{OWN} {a}", a, MESH_PORT) for a in _addresses(site, sidecar, pod)]
    for other in site.sidecars:
        name = f"{stack_of(other)}/{labels_of(other)['meshpy.workload']}"
        if (app := site.app_of(other)) is not None and other["ID"] != sidecar["ID"]:
            for network in sorted(pods_of(other)):
                found += [(f"the app {name} at {a}", a, _port(other)) for a in _addresses(site, app, network)]
        found += [(f"the sidecar of {name} at {a}", a, MESH_PORT) for a in _addresses(site, other, MESH)]
    plane = next((each for each in site.services if each["Spec"]["Name"] == CONTROL_PLANE), None)
    if plane is not None:
        found += [(f"the control plane at {a}", a, CONTROL_PORT) for a in _addresses(site, plane, MESH)]
    for node in site.nodes:
        address = node["Status"].get("Addr", "")
        found.append((f"the node {node['Description']['Hostname']} at {address}", address, SWARM_PORT))
    return found[:MAX_TARGETS]


def send_within(begin: Callable[[], Any]) -> Callable[[Site], Mapping[str, Record]]:
    """A probe on each pod network.

    Args:
        begin: `sending.probes`, given all but the moment.
    """

    def send(site: Site) -> Mapping[str, Record]:
        wanted = [
            (each, pod) for each in site.sidecars if site.running(each) for pod in sorted(pods_of(each))
        ]
        told: dict[str, Record] = {}
        for first in range(0, len(wanted), AT_ONCE):
            made: Probes
            with begin() as made:
                told |= _batch(site, made, wanted[first : first + AT_ONCE])
        return told

    return send


def _batch(site: Site, made: Probes, wanted: Sequence[tuple[Record, str]]) -> dict[str, Record]:
    started = {
        pod: made.service(
            f"{made.name}-{index}",
            [pod],
            "within",
            {"targets": targets_of(site, sidecar, pod)},
            everywhere=False,
        )
        for index, (sidecar, pod) in enumerate(wanted)
    }
    told: dict[str, Record] = {}
    for pod, service in started.items():
        lines, errors = made.answers(service, 1, WAIT_S)
        told[pod] = lines[0] if lines else {"failed": "; ".join(errors)}
    return told


def _closed(site: Site) -> Verdict:
    if not site.sidecars:
        return ok("nothing is meshed yet")
    open_ways, silent = [], []
    for pod, told in site.within.items():
        if "failed" in told:
            silent.append(f"{pod}: {told['failed']}")
            continue
        reached = {label: how for label, how in told["reached"].items() if how}
        if not any(label.startswith(OWN) for label in reached):
            silent.append(f"{pod}: the probe did not reach the sidecar either, so it says nothing")
        open_ways += [
            f"{pod} -> {label} ({how})" for label, how in reached.items() if not label.startswith(OWN)
        ]
        if told["way_out"]:
            open_ways.append(f"{pod} has a way to the outside world")
    if open_ways:
        return failed("; ".join(open_ways), f"networks are not as the injector wrote them: {AGAIN}")
    if silent:
        return unknown("; ".join(silent), "have the sidecars' image on every node")
    tried = sum(len(told["reached"]) for told in site.within.values())
    return ok(f"{tried} ways tried from {len(site.within)} networks")


BYPASS = (
    Check(
        SECTION,
        "bypass",
        "an app's network leads to its sidecar and nowhere else",
        _closed,
        (*NEED, "sidecars-run"),
    ),
)
