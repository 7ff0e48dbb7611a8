"""What each feature costs a request: `python -m tests.bench.features [SECONDS]`.

Microseconds of the sidecar's own work in this process (see `inproc`), the same request with one thing
changed, interleaved. Kernel, loop and TLS are not in here; a process that shares its CPU takes two to three
times as long for the same work.
"""

import gc
import os
import sys
from dataclasses import replace

import uvloop

from meshpy.model.authz import Action, Authorization, AuthorizationPolicy, AuthorizationRule, Condition
from meshpy.model.match import Exact, Prefix
from meshpy.model.rate_limit import RateLimit
from meshpy.model.resilience import OutlierDetection, RetryPolicy
from meshpy.model.route import HeaderOps
from proxy.access_log import NO_LOG, AccessLog
from tests.bench.inproc import inbound_road, outbound_road

OPEN = Authorization(baseline_external=frozenset(range(1024, 65536)))


def _policy(*rules):
    policy = AuthorizationPolicy("AuthorizationPolicy bench/allow", Action.ALLOW, rules)
    return replace(OPEN, policies=(policy,))


def _on_header():
    """Five rules that ask a header: the verdict cannot be kept."""
    rules = [
        AuthorizationRule(f"r{n}", conditions=(Condition("request.headers[x-customer]", (Exact(f"{n}"),)),))
        for n in range(4)
    ]
    last = AuthorizationRule("r4", conditions=(Condition("request.headers[x-customer]", (Prefix("47"),)),))
    return _policy(*rules, last)


def rules_kept(snapshot):
    return snapshot


def no_rules(snapshot):
    return replace(snapshot, authorization=OPEN)


def rules_on_header(snapshot):
    return replace(snapshot, authorization=_on_header())


def rate_limit(snapshot):
    limit = RateLimit("HTTPLocalRateLimitPolicy bench/all", total_rps=10_000_000)
    return replace(no_rules(snapshot), rate_limits=(limit,))


def _rules(snapshot, **settings):
    """The caller's snapshot with every route changed."""
    listeners = []
    for listener in snapshot.outbound:
        hosts = tuple(
            replace(host, rules=tuple(replace(rule, **settings) for rule in host.rules))
            for host in listener.virtual_hosts
        )
        listeners.append(replace(listener, virtual_hosts=hosts))
    return replace(snapshot, outbound=tuple(listeners))


def _clusters(snapshot, **settings):
    return replace(
        snapshot, clusters={name: replace(each, **settings) for name, each in snapshot.clusters.items()}
    )


def one_route(snapshot):
    listeners = [
        replace(
            each, virtual_hosts=tuple(replace(host, rules=host.rules[-1:]) for host in each.virtual_hosts)
        )
        for each in snapshot.outbound
    ]
    return replace(snapshot, outbound=tuple(listeners))


def timeout(snapshot):
    return _rules(snapshot, timeout_s=15.0)


def per_try_timeout(snapshot):
    return _rules(snapshot, retry=RetryPolicy(attempts=2, per_try_timeout_s=2.0))


def header_ops(snapshot):
    return _rules(snapshot, request_headers=HeaderOps(set=(("x-a", "1"), ("x-b", "2")), remove=("x-c",)))


def outlier(snapshot):
    return _clusters(snapshot, outlier=OutlierDetection())


IN = {
    "no rules, no log": (no_rules, False),
    "access log": (no_rules, True),
    "5 rules, verdict kept": (rules_kept, False),
    "5 rules on a header": (rules_on_header, False),
    "rate limit": (rate_limit, False),
}
OUT = {
    "one route, no log": (one_route, False),
    "6 routes": (lambda snapshot: snapshot, False),
    "access log": (one_route, True),
    "timeout": (timeout, False),
    "retries with a per-try timeout": (per_try_timeout, False),
    "2 headers set, 1 removed": (header_ops, False),
    "outlier detection": (outlier, False),
}


async def _measure(make, cases, seconds, rounds=4):
    """The best of some rounds for each case, each case in turn."""
    roads = {}
    for name, (change, is_logged) in cases.items():
        log = AccessLog(os.open(os.devnull, os.O_WRONLY)) if is_logged else NO_LOG
        sidecar, road = await make(log, change)
        road.check()
        roads[name] = (sidecar, road)
    gc.collect()
    gc.freeze()
    best = dict.fromkeys(roads, float("inf"))
    for _ in range(rounds):
        for name, (_, road) in roads.items():
            best[name] = min(best[name], road.ns(seconds / rounds))
    for sidecar, _ in roads.values():
        await sidecar.close()
    return {name: round(value / 1000, 2) for name, value in best.items()}


def measure(*, quick):
    """Microseconds by side and feature; the first of each side is what the others are compared with."""
    seconds = 0.4 if quick else 1.2
    return {
        "callee": uvloop.run(_measure(inbound_road, IN, seconds)),
        "caller": uvloop.run(_measure(outbound_road, OUT, seconds)),
    }


def show(found):
    """Print them."""
    print("\nwhat features cost (µs of a request's own work, in process)")
    for side, rows in found.items():
        first = next(iter(rows.values()))
        for name, value in rows.items():
            print(f"  {side}: {name:34}{value:7.2f}{'' if value is first else f'  {value - first:+.2f}'}")


if __name__ == "__main__":
    show(measure(quick="--quick" in sys.argv))
