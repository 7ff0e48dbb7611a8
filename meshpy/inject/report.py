"""What an injection did, for people (a table) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshpy.compile.ingress import gateway_servers
from meshpy.inject.advice import advice_on
from meshpy.inject.gateways import stated_gateways
from meshpy.inject.inventory import inventory_of_plan
from meshpy.inject.members import Plan
from meshpy.inject.sidecar import join_secret
from meshpy.model.ingress import IngressServer
from meshpy.model.names import ServiceName
from meshpy.wire import encode

__all__ = ["Report", "Row", "report_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """One port of one meshed service; port 0: it listens on nothing, `evidence` says why."""

    service: str
    port: int
    protocol: str
    evidence: str
    published: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Args:
    sidecars: keys of the services that were added.
    exempt: services left as they are, with the reason.
    join_secrets: meshed service -> name of the Swarm secret that its sidecar mounts.
    configs: names of Swarm configs that must exist; `networks` likewise.
    gateways: egress gateways that its services go through.
    servers: of meshed services that end TLS; `secrets` is the section of the file that they name.
    """

    stack: str
    rows: tuple[Row, ...] = ()
    sidecars: tuple[str, ...] = ()
    exempt: Mapping[str, str] = field(default_factory=dict)
    join_secrets: Mapping[str, str] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    permissive: bool = False
    notes: tuple[str, ...] = ()
    servers: Mapping[str, tuple[IngressServer, ...]] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict)
    gateways: tuple[ServiceName, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of `--report FILE.json`."""
        return {
            "stack": self.stack,
            "services": [
                {
                    "service": row.service,
                    "port": row.port or None,
                    "protocol": row.protocol or None,
                    "published": row.published,
                    "evidence": row.evidence,
                }
                for row in self.rows
            ],
            "sidecars": list(self.sidecars),
            "exempt": dict(self.exempt),
            "join_secrets": dict(self.join_secrets),
            "configs": list(self.configs),
            "networks": list(self.networks),
            "permissive": self.permissive,
            "notes": list(self.notes),
            "servers": {name: encode(servers) for name, servers in self.servers.items()},
        }

    def to_table(self) -> str:
        """The same for a terminal."""
        cells = [("SERVICE", "PORT", "PROTOCOL", "EVIDENCE")]
        shown = ""
        for row in self.rows:
            name = row.service if row.service != shown else ""
            shown = row.service
            ends = {s.target for s in self.servers.get(row.service, ()) if s.tls}
            how = " (published, TLS)" if row.port in ends else " (published)" if row.published else ""
            evidence = row.evidence + how
            cells.append((name, str(row.port or "-"), row.protocol or "-", evidence))
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        lines = [
            "  ".join((*(cell.ljust(width) for cell, width in zip(line[:3], widths, strict=True)), line[3]))
            for line in cells
        ]
        if self.exempt:
            lines += ["", "NOT MESHED"]
            lines += [f"  {name}: {reason}" for name, reason in self.exempt.items()]
        if self.notes:
            lines += ["", "NOTES"]
            lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def report_of(plan: Plan, notes: tuple[str, ...] = ()) -> Report:
    """The report of a plan."""
    rows: list[Row] = []
    for member in plan.meshed:
        rows += [Row(member.key, p.number, p.protocol, p.evidence, p.published) for p in member.ports]
        if not member.ports:
            rows.append(Row(member.key, 0, "", member.no_ports))
    return Report(
        plan.stack_name,
        tuple(rows),
        tuple(f"{member.key}-sidecar" for member in plan.meshed),
        {member.key: member.exempt for member in plan.members if member.exempt},
        {member.key: join_secret(plan.stack_name, member.key) for member in plan.meshed},
        ("meshpy-ca",) if plan.meshed else (),
        (plan.settings.mesh_network,) if plan.meshed else (),
        plan.settings.permissive,
        _joined((*plan.notes, *_permissive(plan), *notes, *advice_on(plan.meshed))),
        _servers(plan),
        plan.stack.value.get("secrets") or {},
        tuple(sorted({m.gateway for m in plan.meshed if m.gateway is not None and m.calls_outside})),
    )


def _servers(plan: Plan) -> dict[str, tuple[IngressServer, ...]]:
    """Of `x-mesh.servers`, and what the file's own Gateways make of the ports that are left to them."""
    gateways = stated_gateways(plan.stack, plan.stack_name)
    services = inventory_of_plan(plan).services
    found = {m.key: (*m.servers, *gateway_servers(services[m.name], gateways)) for m in plan.meshed}
    return {key: servers for key, servers in found.items() if servers}


def _permissive(plan: Plan) -> tuple[str, ...]:
    fact = (
        "permissive: it can still be reached and call past its sidecar; inject without --permissive ends it"
    )
    return tuple(f"{m.key}: {fact}" for m in plan.meshed) if plan.settings.permissive else ()


def _joined(notes: tuple[str, ...]) -> tuple[str, ...]:
    """One line per fact: `a, b: the same`."""
    by_fact: dict[str, list[str]] = {}
    for note in notes:
        service, _, fact = note.partition(": ")
        by_fact.setdefault(fact, []).append(service)
    return tuple(f"{', '.join(dict.fromkeys(services))}: {fact}" for fact, services in by_fact.items())
