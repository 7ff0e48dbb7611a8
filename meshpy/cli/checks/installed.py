"""What `meshpy install` made: the mesh network, secrets, the operator's context, the control plane."""

from __future__ import annotations

import base64
from importlib.metadata import version

from meshpy.cli.checks.carriers import FULL, SKEW_S, subnets_of
from meshpy.cli.checks.engine import version_of
from meshpy.cli.checks.site import Site, network_ids
from meshpy.cli.checks.verdict import Check, Verdict, failed, ok, unknown, warning
from meshpy.cli.control_plane_stack import CA_CONFIG, CONTROL_PLANE, MESH, SECRETS
from meshpy.client import ApiError

__all__ = ["BEFORE", "INSTALLED", "skew"]

SMALLEST_BITS = 20
INSTALL = "run `meshpy install`"


def _network(site: Site) -> Verdict:
    mesh = site.network(MESH)
    if mesh is None:
        return failed("there is no network `mesh`", INSTALL)
    wrong = [
        what
        for what, is_wrong in (
            (f"its driver is {mesh.get('Driver')}, not overlay", mesh.get("Driver") != "overlay"),
            ("it is not internal: every sidecar has a way out by it", not mesh.get("Internal")),
            ("any `docker run` may join it (attachable)", mesh.get("Attachable")),
        )
        if is_wrong
    ]
    hint = "`meshpy uninstall`, then `meshpy install`: a network cannot be changed"
    return failed("; ".join(wrong), hint) if wrong else ok()


def _size(site: Site) -> Verdict:
    mesh = site.network(MESH)
    ranges = subnets_of(mesh) if mesh else []
    if not ranges:
        return unknown("the network tells no addresses")
    room = sum(each.num_addresses for each in ranges)
    used = sum(
        each["Network"]["ID"] == (mesh or {}).get("Id")
        for task in site.tasks
        for each in task.get("NetworksAttachments") or ()
    )
    told = f"{used} of {room} addresses of {', '.join(map(str, ranges))} are taken"
    if min(each.prefixlen for each in ranges) > SMALLEST_BITS:
        return failed(
            f"{told}; it should be a /{SMALLEST_BITS} or larger", "tasks beyond it stay in state New for ever"
        )
    return (
        warning(told, "a mesh on a larger network has to be installed anew")
        if used > FULL * room
        else ok(told)
    )


def _free(site: Site) -> Verdict:
    mesh = site.network(MESH)
    if mesh is None or (mesh.get("Driver") == "overlay" and mesh.get("Internal")):
        return ok("meshpy is installed" if mesh else "")
    return failed("a network `mesh` of somebody else is in the way", "remove or rename it")


def _subnet(site: Site) -> Verdict:
    bits = int(site.subnet.rpartition("/")[2])
    return (
        ok(site.subnet)
        if bits <= SMALLEST_BITS
        else failed(
            f"{site.subnet} is too small",
            f"take a /{SMALLEST_BITS} or larger: every sidecar needs an address there",
        )
    )


def _secrets(site: Site) -> Verdict:
    missing = [name for name in SECRETS if name not in site.secrets]
    missing += [name for name in (CA_CONFIG,) if name not in site.configs]
    return failed(f"{', '.join(missing)} missing", INSTALL) if missing else ok()


def _context(site: Site) -> Verdict:
    if not site.context.token:
        return failed(
            "no token of an operator on this machine",
            "copy ~/.config/meshpy/context.json from the machine of `meshpy install`, or set MESHPY_CONTEXT",
        )
    return ok(site.context.url)


def _runs(site: Site) -> Verdict:
    service = next((each for each in site.services if each["Spec"]["Name"] == CONTROL_PLANE), None)
    if service is None:
        return failed(f"there is no service {CONTROL_PLANE}", INSTALL)
    running, wanted = (
        len(site.running(service)),
        service["Spec"]["Mode"].get("Replicated", {}).get("Replicas", 1),
    )
    if running < wanted:
        return failed(
            f"{running} of {wanted} tasks run", f"see `docker service ps --no-trunc {CONTROL_PLANE}`"
        )
    mesh = site.network(MESH)
    if mesh is not None and mesh["Id"] not in network_ids(service):
        return failed("it is not on the network `mesh`", INSTALL)
    return ok(f"{running} of {wanted} tasks run")


def _answers(site: Site) -> Verdict:
    try:
        status = site.status
    except ApiError as error:
        return failed(str(error), "sidecars carry on with what they hold; see the section above, MESHPY_URL")
    return ok(f"{site.context.url}, revision {status['revision']}")


def _discovery(site: Site) -> Verdict:
    health = site.status["discovery"]
    if health["problem"]:
        return failed(
            f"{health['source']}: {health['problem']}", "the last good view stays in force meanwhile"
        )
    if unread := health.get("unread"):  # not told by earlier versions
        return warning("; ".join(unread), "mend the labels: `meshpy deploy` of its stack writes them anew")
    return ok()


def _problems(site: Site) -> Verdict:
    problems = site.status["problems"]
    return failed("; ".join(problems), "the last good policies stay in force meanwhile") if problems else ok()


def skew(found: str, wanted: str) -> str:
    """How two versions differ: "" (not at all), "patch", "minor" or "major"."""
    if found == wanted:
        return ""
    pairs = zip((*version_of(found), 0, 0, 0), (*version_of(wanted), 0, 0, 0), strict=False)
    differs = next((index for index, (one, two) in enumerate(pairs) if one != two), 2)
    return ("major", "minor", "patch")[min(differs, 2)]


def _version(site: Site) -> Verdict:
    theirs, ours = str(site.status.get("meshpy") or "older than 0.2"), version("swarm-meshpy")
    match skew(theirs, ours):
        case "":
            return ok(ours)
        case "patch" | "minor":
            return warning(f"the control plane is {theirs}, this tool {ours}", "run `meshpy upgrade`")
        case _:
            return failed(
                f"the control plane is {theirs}, this tool {ours}", "take a tool of that version, or upgrade"
            )


def _clock(site: Site) -> Verdict:
    ahead_s = site.control_plane_ahead_s
    if ahead_s is None:
        return unknown("the control plane's answers carry no date")
    if abs(ahead_s) > SKEW_S:
        return failed(
            f"the control plane's clock is {ahead_s:+.0f} s from this machine's", "run an NTP client on both"
        )
    return ok()


def _trust(site: Site) -> Verdict:
    config = site.configs.get(CA_CONFIG)
    if config is None:
        return unknown(f"the config {CA_CONFIG} is missing")
    told = base64.b64decode(config["Spec"].get("Data") or "").decode().strip()
    if told != site.bundle["pem"].strip():
        return failed(
            "the config meshpy-ca holds other roots than the control plane: new sidecars will not trust it",
            "run `meshpy upgrade`, which makes it anew",
        )
    return ok()


BEFORE = (
    Check("meshpy-pre", "mesh-subnet", "the mesh's range is a /20 or larger", _subnet),
    Check(
        "meshpy-pre", "mesh-name", "the name `mesh` is free for the mesh network", _free, ("swarm-manager",)
    ),
)
SECTION, PLANE = "meshpy-install", "meshpy-control-plane"
NEED, CONTROL = ("swarm-manager",), ("operator-context", "control-plane-answers")
INSTALLED = (
    Check(SECTION, "mesh-network", "the mesh network is internal and of sidecars alone", _network, NEED),
    Check(SECTION, "mesh-size", "the mesh network has addresses left", _size, (*NEED, "mesh-network")),
    Check(
        SECTION, "mesh-secrets", "the control plane's secrets and the CA's config are there", _secrets, NEED
    ),
    Check(SECTION, "operator-context", "this machine has an operator's context", _context),
    Check(PLANE, "control-plane-runs", "the control plane's tasks run", _runs, NEED),
    Check(
        PLANE, "control-plane-answers", "it answers, and proves its identity", _answers, ("operator-context",)
    ),
    Check(PLANE, "discovery", "it reads the Swarm", _discovery, CONTROL),
    Check(PLANE, "policies-compile", "the policies compile for the services there are", _problems, CONTROL),
    Check(PLANE, "version-skew", "it has the version of this tool", _version, CONTROL),
    Check(PLANE, "operator-clock", "its clock agrees with this machine's", _clock, CONTROL),
    Check(PLANE, "trust-config", "new sidecars trust the roots of today", _trust, (*NEED, *CONTROL)),
)
