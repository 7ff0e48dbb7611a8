"""Istio's ServiceEntry as its documentation reads. Nothing of meshpy is used; an entry is `ns`, `name`,
`spec`.

Where requests for a host go: ("dns", name, port), or the addresses with their ports; None where no entry that
the caller's namespace sees describes the host.
"""

ROOT = "mesh-system"


def sees(ns, entry):
    to = entry["spec"].get("exportTo", ["*"])
    return "*" in to or ns in to or ("." in to and entry["ns"] == ns)


def the_entry(entries, ns, host):
    """The caller's own, then the root's, then others by namespace and name."""
    rank = {ns: 0, ROOT: 1}
    found = [e for e in entries if sees(ns, e) and host in e["spec"]["hosts"]]
    return min(found, key=lambda e: (rank.get(e["ns"], 2), e["ns"], e["name"]), default=None)


def reached(entry, host, port, labels):
    listed = {p["number"]: p for p in entry["spec"]["ports"]}
    known = listed[port]
    target = known.get("targetPort", port)
    ends = entry["spec"].get("endpoints", [])
    if not ends:
        return "dns", host, target
    chosen = [e for e in ends if labels.items() <= e.get("labels", {}).items()]
    at = [(e["address"], e.get("ports", {}).get(known["name"], target)) for e in chosen]
    return ("dns", *at[0]) if at and entry["spec"]["resolution"] == "DNS" else tuple(sorted(at))


def goes(entries, ns, host, port, labels, *, is_named):
    """A host that the caller's stack file lets it call is led elsewhere by no stranger's entry."""
    if is_named:
        entries = [e for e in entries if e["ns"] in (ns, ROOT)]
    entry = the_entry(entries, ns, host)
    if entry is None:
        return ("dns", host, port) if is_named else None
    return reached(entry, host, port, labels)
