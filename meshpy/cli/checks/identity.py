"""The CA's certificates and those of the sidecars: ages and renewals."""

from __future__ import annotations

from datetime import datetime

from meshpy.cli.checks.site import Record, Site
from meshpy.cli.checks.verdict import Check, Verdict, failed, ok, warning

__all__ = ["IDENTITY"]

ROOT_DAYS, INTERMEDIATE_DAYS = 60, 30
LEFT_SHARE = 0.25
"""A sidecar renews at half of its certificate's life; with a quarter left it has failed to."""


def _ends(certificate: Record, site: Site, days: int, what: str) -> Verdict:
    until, since = (datetime.fromisoformat(certificate[key]) for key in ("not_after", "not_before"))
    left = (until - site.now).total_seconds() / 86400
    if since > site.now:
        return failed(f"{what} is valid from {since:%Y-%m-%d %H:%M} on only", "look at the clocks")
    if left <= 0:
        return failed(f"{what} ended on {until:%Y-%m-%d}", "docs/control-plane.md says how a CA is replaced")
    told = f"{what} ends on {until:%Y-%m-%d}, in {left:.0f} days"
    return warning(told, "docs/control-plane.md says how a CA is replaced") if left < days else ok(told)


def _worst(verdicts: list[Verdict]) -> Verdict:
    order = ("error", "unknown", "warning", "success")
    return min(verdicts, key=lambda each: order.index(str(each.result)))


def _roots(site: Site) -> Verdict:
    return _worst([_ends(each, site, ROOT_DAYS, "the root") for each in site.ca["roots"]])


def _intermediate(site: Site) -> Verdict:
    return _ends(site.ca["intermediate"], site, INTERMEDIATE_DAYS, "the intermediate")


def _leaves(site: Site) -> Verdict:
    life_s = float(site.ca["leaf_ttl_s"])
    late = []
    sidecars = [each for each in site.status["sidecars"] if each["state"] != "DISCONNECTED"]
    for each in sidecars:
        until = datetime.fromisoformat(each["certificate_not_after"])
        left_s = (until - site.now).total_seconds()
        if left_s < life_s * LEFT_SHARE:
            late.append(f"{each['service']} on {each['node']}: {left_s / 60:.0f} min left")
    if late:
        return failed("; ".join(late), "see these sidecars' logs, and `meshpy ca status`")
    return ok(f"{len(sidecars)} sidecars, certificates of {life_s / 60:.0f} min")


SECTION = "meshpy-identity"
NEED = ("operator-context", "control-plane-answers")
IDENTITY = (
    Check(SECTION, "root-valid", "the root certificates are valid", _roots, NEED),
    Check(SECTION, "intermediate-valid", "the intermediate certificate is valid", _intermediate, NEED),
    Check(SECTION, "leaves-renewed", "the sidecars' certificates are renewed in time", _leaves, NEED),
)
