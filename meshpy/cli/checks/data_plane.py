"""The sidecars of the stacks, and the apps behind them, as the Swarm and the control plane have them."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version

from meshpy.cli.checks.carriers import are_encrypted
from meshpy.cli.checks.installed import skew
from meshpy.cli.checks.site import Record, Site, labels_of, network_ids, stack_of
from meshpy.cli.checks.verdict import Check, Verdict, failed, ok, warning

__all__ = ["DATA_PLANE", "pods_of"]

AGAIN = "deploy the stack again with `meshpy deploy`"


def pods_of(sidecar: Record) -> frozenset[str]:
    """Full names of the pod networks of an app: its own, and one per clash of ports."""
    labels = labels_of(sidecar)
    more = [part.partition("=")[2] for part in labels.get("meshpy.binds", "").split(",")]
    return frozenset(filter(None, (labels.get("meshpy.pod", ""), *more)))


def _named(sidecar: Record) -> str:
    return f"{stack_of(sidecar)}/{labels_of(sidecar)['meshpy.workload']}"


def _runs(site: Site) -> Verdict:
    if not site.sidecars:
        return ok("nothing is meshed yet")
    short = []
    for each in site.sidecars:
        wanted = each["Spec"]["Mode"].get("Replicated", {}).get("Replicas")
        wanted = len(site.ready_nodes) if wanted is None and not _has_placement(each) else wanted
        running = len(site.running(each))
        if running < (1 if wanted is None else wanted):
            short.append(f"{each['Spec']['Name']}: {running} of {wanted or 'some'} tasks")
    if short:
        return failed("; ".join(short), "see `docker service ps --no-trunc SERVICE`")
    return ok(f"{len(site.sidecars)} services")


def _has_placement(service: Record) -> bool:
    return bool((service["Spec"]["TaskTemplate"].get("Placement") or {}).get("Constraints"))


def _in_sync(site: Site) -> Verdict:
    known = Counter(each["service"] for each in site.status["sidecars"] if each["state"] != "DISCONNECTED")
    wrong = [
        f"{each['service']} on {each['node']} is {each['state']} {each['reason']}".strip()
        for each in site.status["sidecars"]
        if each["state"] not in ("SYNCED", "DISCONNECTED")
        and (not site.stacks or each["service"].partition("/")[0] in site.stacks)
    ]
    for each in site.sidecars:
        running = len(site.running(each))
        if running > known[_named(each)]:
            wrong.append(f"{_named(each)}: {known[_named(each)]} of {running} running sidecars are connected")
    if wrong:
        return failed("; ".join(wrong), "see `docker service logs` of these sidecars")
    return ok(f"{known.total()} sidecars decide by revision {site.status['revision']}")


def _versions(site: Site) -> Verdict:
    theirs, ours = Counter(each["meshpy"] for each in site.status["sidecars"]), version("swarm-meshpy")
    others = {found: count for found, count in theirs.items() if skew(found, ours)}
    if not others:
        return ok()
    told = ", ".join(f"{count} of version {found}" for found, count in sorted(others.items()))
    is_major = any(skew(found, ours) == "major" for found in others)
    return (failed if is_major else warning)(f"{told}; this tool is {ours}", "run `meshpy upgrade`")


def _secrets(site: Site) -> Verdict:
    missing = []
    for each in site.sidecars:
        mounted = each["Spec"]["TaskTemplate"]["ContainerSpec"].get("Secrets") or ()
        names = [
            s["SecretName"] for s in mounted if (s.get("File") or {}).get("Name", "").endswith("meshpy-join")
        ]
        if not names:
            missing.append(f"{each['Spec']['Name']} mounts no join secret")
        missing += [f"{each['Spec']['Name']}: {name} is gone" for name in names if name not in site.secrets]
    return failed("; ".join(missing), AGAIN) if missing else ok()


def _alone(site: Site) -> Verdict:
    names = {each["Id"]: each["Name"] for each in site.networks}
    wrong = []
    for sidecar in site.sidecars:
        app, labels = site.app_of(sidecar), labels_of(sidecar)
        if labels.get("meshpy.role"):  # a sidecar without an app, by design
            continue
        if app is None:
            wrong.append(f"{_named(sidecar)} has a sidecar and no service")
            continue
        pods = pods_of(sidecar)
        group = labels.get("meshpy.group", "")
        allowed = pods | {group} | set(filter(None, labels.get("meshpy.permissive", "").split(",")))
        others = sorted({names.get(each, each) for each in network_ids(app)} - allowed)
        wrong += [f"{_named(sidecar)} is also on {name}" for name in others]
        if (app["Spec"].get("EndpointSpec") or {}).get("Ports"):
            wrong.append(f"{_named(sidecar)} publishes ports past its sidecar")
        for pod in sorted(pods):
            wrong += _pod_faults(site, pod, {app["ID"], sidecar["ID"]})
        if group:
            wrong += _pod_faults(site, group, _group(site, group))
    if wrong:
        return failed("; ".join(dict.fromkeys(wrong)), AGAIN)
    return ok(f"{len(site.sidecars)} apps")


def _group(site: Site, network: str) -> set[str]:
    """The apps that share a group's network."""
    peers = (site.app_of(each) for each in site.sidecars if labels_of(each).get("meshpy.group") == network)
    return {app["ID"] for app in peers if app is not None}


def _pod_faults(site: Site, pod: str, members: set[str]) -> list[str]:
    network = site.network(pod)
    if network is None:
        return [f"the network {pod} is missing"]
    faults = []
    if not network.get("Internal"):
        faults.append(f"{pod} is not internal: it leads out")
    if network.get("Attachable"):
        faults.append(f"{pod} is attachable: any container may join it")
    strangers = [
        each["Spec"]["Name"]
        for each in site.services
        if network["Id"] in network_ids(each)
        and each["ID"] not in members
        and labels_of(each).get("meshpy.part") != "check"
    ]
    return faults + [f"{name} sits on {pod} too" for name in strangers]


def _permissive(site: Site) -> Verdict:
    open_ones = [_named(each) for each in site.sidecars if labels_of(each).get("meshpy.permissive")]
    if open_ones:
        told = f"{', '.join(open_ones)} can be reached and can call past the sidecar: deployed --permissive"
        return warning(told, "deploy the stack without --permissive once all callers are meshed")
    return ok()


def _encrypted(site: Site) -> Verdict:
    pods = {pod for each in site.sidecars for pod in pods_of(each)}
    plain = sorted(each["Name"] for each in site.networks if each["Name"] in pods and not are_encrypted(each))
    if plain and len(site.nodes) == 1:
        return ok("not encrypted; one node, which it never leaves")
    if plain:
        shown = ", ".join(plain[:5]) + (f" and {len(plain) - 5} more" if len(plain) > 5 else "")
        return warning(
            f"{shown}: plain on the wire when app and sidecar are on different nodes",
            "leave out `encrypted: false` where the kernels have ESP, or place both on one node",
        )
    return ok()


SECTION = "meshpy-data-plane"
NEED = ("swarm-manager",)
CONTROL = ("operator-context", "control-plane-answers")
DATA_PLANE = (
    Check(SECTION, "sidecars-run", "every sidecar that should run does", _runs, NEED),
    Check(SECTION, "sidecars-sync", "the sidecars are connected and in sync", _in_sync, (*NEED, *CONTROL)),
    Check(SECTION, "sidecar-versions", "the sidecars have the version of this tool", _versions, CONTROL),
    Check(SECTION, "join-secrets", "every sidecar's join secret is there", _secrets, NEED),
    Check(SECTION, "apps-alone", "every app is alone with its sidecar on internal networks", _alone, NEED),
    Check(
        SECTION, "permissive", "no stack is in a permissive migration", _permissive, NEED, is_advisory=True
    ),
    Check(
        SECTION,
        "hop-encrypted",
        "the hop between app and sidecar is encrypted",
        _encrypted,
        NEED,
        is_advisory=True,
    ),
)
