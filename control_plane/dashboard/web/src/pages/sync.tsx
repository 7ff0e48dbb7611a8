import { ago, shortId } from "../format";
import { go, route, withQuery } from "../router";
import { inNamespace, status } from "../state";
import type { Sidecar } from "../types";
import { Badge, Card, Empty, Search, Table, type Tone } from "../ui";
import { ServiceLink } from "./overview";

const TONES: Record<string, Tone> = { SYNCED: "good", PENDING: "warn", STALE: "bad", REJECTED: "bad", NO_SNAPSHOT: "warn", DISCONNECTED: "quiet" };

export function SidecarTable({ sidecars }: { sidecars: Sidecar[] }) {
  return (
    <Table
      label="Sidecars"
      rows={sidecars}
      id={(each) => `${each.service}${each.task}`}
      empty="no sidecar is connected"
      columns={[
        { head: "Service", cell: (each) => <ServiceLink name={each.service} />, sort: (each) => each.service },
        { head: "Task", cell: (each) => <code title={each.task}>{shortId(each.task)}</code>, sort: (each) => each.task },
        { head: "Node", cell: (each) => each.node || "–", sort: (each) => each.node },
        {
          head: "State",
          cell: (each) => (
            <>
              <Badge tone={TONES[each.state] ?? "quiet"}>{each.state}</Badge> {each.canary && <Badge tone="warn">canary</Badge>}
            </>
          ),
          sort: (each) => each.state,
        },
        { head: "Revision", numeric: true, cell: (each) => each.revision, sort: (each) => each.revision },
        { head: "Version", cell: (each) => <code>{each.held.slice(0, 10) || "–"}</code> },
        { head: "Certificate ends", cell: (each) => ago(each.certificate_not_after), sort: (each) => each.certificate_not_after },
        { head: "Reason", cell: (each) => <span class="bad">{each.reason}</span> },
      ]}
    />
  );
}

export function Sync() {
  const now = status.value;
  if (!now) return <Empty>asking the control plane…</Empty>;
  const text = (route.value.query.get("q") ?? "").toLowerCase();
  const holds = (each: Sidecar) => [each.service, each.task, each.node, each.state].some((field) => field.toLowerCase().includes(text));
  return (
    <>
    <div class="bar">
      <Search label="Service, node, state" value={route.value.query.get("q") ?? ""} onInput={(q) => go(withQuery({ q }))} />
    </div>
    <Card
      title="Who decides by what"
      aside={
        <span class="quiet">
          services from {now.discovery.source}
          {now.discovery.age_s !== null && `, read ${Math.round(now.discovery.age_s)} s ago`}
        </span>
      }
    >
      <SidecarTable sidecars={now.sidecars.filter((each) => inNamespace(each.service) && holds(each))} />
    </Card>
    </>
  );
}
