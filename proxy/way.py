"""Along a route: the rule that takes a request, the caller's own egress rules, and the plan that follows.

So requests of the app leave, and so do those of callers outside that a Gateway leads to another service.
"""

from __future__ import annotations

from collections.abc import Callable

from meshpy.engine.route import NoRoute, Routed, Router
from meshpy.model.route import Destination
from proxy.answers import no_route, route_answer
from proxy.config import Compiled, OutboundTarget
from proxy.denial import denial
from proxy.http.head import RequestHead
from proxy.mirror import Mirroring
from proxy.plan import Plan, Reply
from proxy.report import Reporter
from proxy.requests import as_request
from proxy.telemetry import EdgeKey

__all__ = ["Way"]


class Way:
    """Follows routes; what egress rules would say of pending policies is told to the reporter."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._mirroring = Mirroring(reporter.telemetry)

    def follow(
        self,
        target: OutboundTarget,
        router: Router,
        compiled: Compiled,
        head: RequestHead,
        draw: Callable[[], float],
    ) -> Plan | Reply:
        """What becomes of a request at a listener."""
        request = as_request(head)
        routing = router.route(request, draw())
        if isinstance(routing, NoRoute):
            return no_route(routing)
        if not isinstance(routing, Routed):
            return route_answer(routing)
        verdict = target.judge(compiled.egress, routing.destination, request)
        if verdict.audited or verdict.pending is not None:
            services = routing.destination.services
            called = str(services[0]) if services else ""
            service = routing.virtual_host
            key = EdgeKey("outbound", compiled.workload, called, service, "http", bool(services))
            self._reporter.observe(verdict, key, head)
        if not verdict.allowed:
            return denial(verdict, routing.virtual_host, is_named=True)
        plan = target.plan_of(routing)
        if routing.rule.mirrors and head.upgrade is None and head.method != "CONNECT":

            def is_allowed(destination: Destination) -> bool:
                return target.judge(compiled.egress, destination, request).allowed

            return self._mirroring.draw(plan, routing.rule.mirrors, target.clusters.get, is_allowed, draw)
        target.settle(head, routing, plan, compiled.egress)
        return plan
