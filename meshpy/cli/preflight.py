"""Before a deployment: whether this Swarm can carry what the injected file asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meshpy.cli.checks.carriers import CARRIERS, send_across
from meshpy.cli.checks.engine import ENGINE
from meshpy.cli.checks.installed import INSTALLED
from meshpy.cli.checks.sending import probes
from meshpy.cli.checks.site import Site
from meshpy.cli.checks.verdict import Check, Outcome, Result, run_checks
from meshpy.cli.control_plane_stack import context_file
from meshpy.cli.docker import Docker
from meshpy.cli.engine_api import EngineApi
from meshpy.cli.progress import Progress
from meshpy.errors import MeshpyError
from meshpy.inject import Injected
from meshpy.inject.stackfile import StackFile

__all__ = ["preflight", "what_it_needs"]

QUICK = {"engine-answers", "api-version", "swarm-manager", "swarm-quorum", "engine-version"}
QUICK |= {"mesh-network", "mesh-secrets", "operator-context", "control-plane-answers", "discovery"}
REMEDY = {
    "ipvs": "deploy with --endpoint-mode dnsrr, or write `endpoint_mode: dnsrr` below x-mesh",
    "esp": "deploy with --no-encrypt, or write `encrypted: false` below x-mesh",
}


def what_it_needs(text: str) -> frozenset[str]:
    """Which features of the kernel an injected file counts on: `ipvs`, `esp`."""
    value = StackFile.parse(text).value
    pods = [n for n in (value.get("networks") or {}).values() if isinstance(n, dict) and n.get("internal")]
    needs = {"esp"} if any("encrypted" in (n.get("driver_opts") or {}) for n in pods) else set()
    sidecars = [s for s in _services(value) if _is_sidecar(s)]
    if any((s.get("deploy") or {}).get("endpoint_mode", "vip") == "vip" for s in sidecars):
        needs.add("ipvs")
    return frozenset(needs)


def _services(value: Any) -> Iterator[Any]:
    yield from (value.get("services") or {}).values()


def _is_sidecar(service: Any) -> bool:
    return any("meshpy.workload" in str(label) for label in (service.get("deploy") or {}).get("labels") or ())


def _image(text: str) -> str:
    return next((str(s["image"]) for s in _services(StackFile.parse(text).value) if _is_sidecar(s)), "")


def preflight(engine: EngineApi, docker: Docker, injected: Injected, progress: Progress) -> None:
    """Look, and say what was seen. Probes are sent when the nodes are others than those that passed before.

    Raises:
        MeshpyError: something is in the way; every one of them, with what to do.
    """

    def begin() -> object:
        return probes(engine, docker, _image(injected.text), progress.say)

    site = Site(engine, across=send_across(begin), within=lambda _: {}, is_before=True)
    checks: list[Check] = [each for each in (*ENGINE, *INSTALLED) if each.anchor in QUICK]
    outcomes = list(run_checks(checks, site))
    _refuse([each for each in outcomes if each.verdict.result in (Result.ERROR, Result.UNKNOWN)])
    needs = what_it_needs(injected.text) - _passed(site)
    if needs:
        progress.say("preflight: sending probes between the nodes")
        wanted = [each for each in CARRIERS if each.anchor in {"probe-tasks", "overlay", *needs}]
        probed = list(run_checks(wanted, site))
        _refuse([each for each in probed if each.verdict.result is Result.ERROR])
        for each in probed:
            if each.verdict.result is Result.UNKNOWN:
                progress.say(f"  ? {each.check.fact}: {each.verdict.detail}")
            else:
                _remember(site, each.check.anchor)
        outcomes += probed
    progress.say(f"  √ preflight: {len(outcomes)} checks")


def _refuse(wrong: list[Outcome]) -> None:
    if wrong:
        told = "\n".join(map(_told, wrong))
        raise MeshpyError(f"preflight: {told}\n--no-preflight goes on all the same")


def _told(outcome: Outcome) -> str:
    """What is in the way and what to do; of what could not be looked at, why."""
    check, verdict = outcome.check, outcome.verdict
    remedy = REMEDY.get(check.anchor) or verdict.hint
    if verdict.result is Result.UNKNOWN or not remedy:
        return f"{check.fact}: {verdict.detail} ({outcome.docs})"
    return f"{check.fact}: no: {verdict.detail}\n  {remedy} ({outcome.docs})"


def _file() -> Path:
    return context_file().with_name("probed.json")


def _key(site: Site) -> str:
    """These nodes with these engines: another kernel or node is another key, as far as Docker tells."""
    told = sorted((node["ID"], node["Description"]["Engine"]["EngineVersion"]) for node in site.nodes)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _held() -> dict[str, list[str]]:
    try:
        held: dict[str, list[str]] = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return held


def _passed(site: Site) -> frozenset[str]:
    return frozenset(_held().get(_key(site), ()))


def _remember(site: Site, anchor: str) -> None:
    passed = sorted({*_passed(site), anchor})
    file = _file()
    if file.parent.is_dir():
        file.write_text(json.dumps({_key(site): passed}))
