import { count, denials, milliseconds, percent, perSecond } from "../format";
import { link } from "../router";
import { inNamespace, known, past, status } from "../state";
import type { Edge } from "../types";
import { Badge, Card, Empty, Line, Table } from "../ui";

const MOST = 200; // rows of a table: of more the busiest are shown

export function Overview() {
  const now = status.value;
  if (!now) return <Empty>asking the control plane…</Empty>;
  const services = now.services.filter((each) => inNamespace(each.name));
  const edges = now.edges.filter((each) => inNamespace(each.source) || inNamespace(each.destination));
  const sidecars = now.sidecars.filter((each) => inNamespace(each.service));
  const meshed = services.filter((each) => !each.exempt);
  const late = sidecars.filter((each) => each.state !== "SYNCED");
  const rps = edges.reduce((sum, edge) => sum + edge.rps, 0);
  const carried = edges.filter((edge) => !edge.source.startsWith("outside") && edge.source !== "" && edge.requests + edge.connections > 0);
  const encrypted = carried.filter((edge) => edge.mtls_ratio === 1);
  return (
    <>
      <dl class="tiles">
        <Tile name="Policy revision" value={`${now.revision}`} to={link("policies")} note={now.problems.length ? `${now.problems.length} findings` : "no findings"} />
        <Tile name="Services in the mesh" value={`${meshed.length} of ${services.length}`} to={link("services")} note={services.length - meshed.length ? "others are exempt, with the reason" : "all of them"} />
        <Tile name="Sidecars in sync" value={`${sidecars.length - late.length} of ${sidecars.length}`} to={link("sync")} note={late.length ? `${late.length} are not` : "all of them"} bad={late.length > 0} />
        <Tile name="Requests" value={`${perSecond(rps)}/s`} to={link("graph")} note={`${count(edges.reduce((sum, each) => sum + each.requests, 0))} since the start`} />
        <Tile name="Edges on mTLS" value={`${encrypted.length} of ${carried.length}`} to={link("graph")} note="between services of the mesh" bad={encrypted.length < carried.length} />
      </dl>
      {now.discovery.problem && <p class="banner" role="status">discovery: {now.discovery.problem}</p>}
      {now.problems.length > 0 && (
        <Card title="Findings">
          <ul class="findings">
            {now.problems.slice(0, 20).map((each) => (
              <li key={each}>{each}</li>
            ))}
          </ul>
        </Card>
      )}
      <div class="columns">
        <Line label="Requests" unit="/s" pick={(at) => past.value[at]!.rps} />
        <Line label="Success" unit="%" pick={(at) => past.value[at]!.success} />
        <Line label="Slowest p99" unit="ms" pick={(at) => past.value[at]!.p99_ms} />
        <Line label="Denied" unit="/s" pick={(at) => past.value[at]!.denied} />
      </div>
      <Card title="Who calls whom">
        <EdgeTable edges={edges.length > MOST ? [...edges].sort((a, b) => b.rps - a.rps) : edges} />
      </Card>
    </>
  );
}

function Tile(props: { name: string; value: string; note: string; to: string; bad?: boolean }) {
  return (
    <div class={props.bad ? "tile bad" : "tile"}>
      <dt>{props.name}</dt>
      <dd>
        <a href={props.to}>{props.value}</a>
        <small>{props.note}</small>
      </dd>
    </div>
  );
}

export function ServiceLink({ name }: { name: string }) {
  return known.value.has(name) ? <a href={link("services", [name])}>{name}</a> : <span class="quiet">{name || "outside"}</span>;
}

export function EdgeTable({ edges }: { edges: Edge[] }) {
  return (
    <Table
      label="Edges"
      rows={edges}
      id={(edge) => `${edge.source}>${edge.destination}>${edge.protocol}`}
      empty="no traffic was seen yet"
      columns={[
        { head: "From", cell: (edge) => <ServiceLink name={edge.source} />, sort: (edge) => edge.source },
        { head: "To", cell: (edge) => <ServiceLink name={edge.destination} />, sort: (edge) => edge.destination },
        { head: "Protocol", cell: (edge) => edge.protocol, sort: (edge) => edge.protocol },
        { head: "Requests/s", numeric: true, cell: (edge) => perSecond(edge.rps), sort: (edge) => edge.rps },
        {
          head: "Success",
          numeric: true,
          cell: (edge) => (
            <span class={edge.window_success_ratio < 0.99 ? "bad" : ""}>{percent(edge.window_success_ratio)}</span>
          ),
          sort: (edge) => edge.window_success_ratio,
        },
        { head: "p50", numeric: true, cell: (edge) => milliseconds(edge.p50_ms), sort: (edge) => edge.p50_ms ?? -1 },
        { head: "p99", numeric: true, cell: (edge) => milliseconds(edge.p99_ms), sort: (edge) => edge.p99_ms ?? -1 },
        {
          head: "mTLS",
          cell: (edge) =>
            edge.mtls_ratio === 1 ? <Badge tone="good">mTLS</Badge> : <Badge tone="quiet">{percent(edge.mtls_ratio)}</Badge>,
          sort: (edge) => edge.mtls_ratio,
        },
        { head: "Denied", numeric: true, cell: (edge) => count(denials(edge.denied)), sort: (edge) => denials(edge.denied) },
        { head: "Retries", numeric: true, cell: (edge) => count(edge.retries), sort: (edge) => edge.retries },
      ]}
    />
  );
}
