import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api";
import { count } from "../format";
import { go, link, route, withQuery } from "../router";
import { inNamespace, received, status } from "../state";
import type { Flows, Service, ServiceDetail, Sidecar } from "../types";
import { Badge, Card, Empty, Search, Table, Trouble } from "../ui";
import { EdgeTable, ServiceLink } from "./overview";
import { SidecarTable } from "./sync";

export function health(service: Service) {
  if (service.exempt) return <Badge tone="quiet">not meshed</Badge>;
  if (service.endpoints === 0) return <Badge tone="bad">no endpoint</Badge>;
  if (service.synced < service.sidecars) return <Badge tone="warn">not in sync</Badge>;
  return <Badge tone="good">meshed</Badge>;
}

export function Services() {
  const text = (route.value.query.get("q") ?? "").toLowerCase();
  const rows = (status.value?.services ?? []).filter((each) => inNamespace(each.name) && each.name.toLowerCase().includes(text));
  const traffic = (name: string) => received.value.get(name) ?? 0;
  return (
    <>
      <div class="bar">
        <Search label="Service" value={route.value.query.get("q") ?? ""} onInput={(q) => go(withQuery({ q }))} />
      </div>
      <Table
        label="Services"
        rows={rows}
        id={(each) => each.name}
        empty={status.value ? "no service holds that" : "asking the control plane…"}
        columns={[
          { head: "Service", cell: (each) => <ServiceLink name={each.name} />, sort: (each) => each.name },
          { head: "State", cell: health, sort: (each) => each.exempt || String(each.endpoints) },
          { head: "Endpoints", numeric: true, cell: (each) => each.endpoints, sort: (each) => each.endpoints },
          { head: "Sidecars in sync", numeric: true, cell: (each) => `${each.synced} of ${each.sidecars}`, sort: (each) => each.synced },
          { head: "Requests/s", numeric: true, cell: (each) => traffic(each.name).toFixed(1), sort: (each) => traffic(each.name) },
          { head: "Note", cell: (each) => <span class="quiet">{each.exempt}</span> },
        ]}
      />
    </>
  );
}

export function ServicePage({ name }: { name: string }) {
  const detail = useSignal<ServiceDetail | null>(null);
  const error = useSignal<unknown>(null);
  const revision = status.value?.revision;
  useEffect(() => {
    call<ServiceDetail>("GET", `/v1/services/${name.split("/").map(encodeURIComponent).join("/")}`).then(
      (found) => {
        detail.value = found;
        error.value = null;
      },
      (reason) => (error.value = reason),
    );
  }, [name, revision]);
  const edges = (status.value?.edges ?? []).filter((edge) => edge.source === name || edge.destination === name);
  const sidecars: Sidecar[] = (status.value?.sidecars ?? []).filter((each) => each.service === name);
  const found = detail.value;
  return (
    <>
      <p class="crumbs">
        <a href={link("services")}>all services</a> · <a href={link("requests", [], { destination: name })}>requests</a> · <a href={link("graph", [], { at: name })}>in the graph</a> ·{" "}
        <a href={link("traces", [], { service: name.split("/").reverse().join(".") })}>traces</a>
      </p>
      <Trouble error={error.value} />
      {found?.exempt && <p class="banner">not meshed: {found.exempt}</p>}
      <Card title="Traffic">
        <EdgeTable edges={edges} />
      </Card>
      {found && (
        <div class="columns">
          <Card title="Ports">
            <Table
              label="Ports"
              rows={found.ports}
              id={(each) => String(each.number)}
              empty="it offers no port"
              columns={[
                { head: "Port", cell: (each) => each.number },
                { head: "Protocol", cell: (each) => each.protocol },
                { head: "Published", cell: (each) => (each.published ? "yes" : "no") },
              ]}
            />
          </Card>
          <Card title="Labels">
            <dl class="pairs">
              {Object.entries(found.labels).map(([key, value]) => (
                <div key={key}>
                  <dt>{key}</dt>
                  <dd>{value}</dd>
                </div>
              ))}
            </dl>
          </Card>
        </div>
      )}
      {found?.snapshot && <InForce snapshot={found.snapshot} edges={edges.map((edge) => edge.denied)} />}
      {found?.snapshot && <Routes snapshot={found.snapshot} />}
      {found && (
        <Card title="Endpoints">
          <Table
            label="Endpoints"
            rows={found.endpoints}
            id={(each) => `${each.address}:${each.port}`}
            empty="none: no task of it runs"
            columns={[
              { head: "Address", cell: (each) => `${each.address}:${each.port}`, sort: (each) => each.address },
              { head: "Node", cell: (each) => each.node || "–", sort: (each) => each.node },
            ]}
          />
        </Card>
      )}
      <Card title="Sidecars and their certificates">
        <SidecarTable sidecars={sidecars} />
      </Card>
    </>
  );
}

function rules(policy: { rules?: unknown[] }): string {
  const number = policy.rules?.length ?? 0;
  return number === 1 ? "1 rule" : `${number} rules`;
}

function InForce({ snapshot, edges }: { snapshot: Record<string, any>; edges: Record<string, number>[] }) {
  const authorization = snapshot.authorization ?? {};
  const decided = useSignal<Flows["rules"]>([]);
  const revision = status.value?.revision;
  useEffect(() => {
    call<Flows>("GET", "/v1/flows").then((answer) => (decided.value = answer.rules), () => undefined);
  }, [revision]);
  const all = (policy: string) =>
    decided.value.filter((each) => each.policy === policy).reduce((sum, each) => sum + each.requests, 0);
  const hits = (policy: string) => edges.reduce((sum, denied) => sum + (denied[policy] ?? 0), 0);
  const rows: { name: string; stage: string; what: string }[] = [];
  for (const direction of ["ingress", "egress"])
    for (const tier of authorization[direction] ?? [])
      for (const policy of tier.policies ?? [])
        rows.push({ name: policy.name, stage: `${direction}, tier ${tier.name}`, what: rules(policy) });
  for (const policy of authorization.policies ?? [])
    rows.push({
      name: policy.name,
      stage: policy.dry_run ? "dry run" : String(policy.action).toLowerCase(),
      what: rules(policy),
    });
  return (
    <Card title="Policies in force">
      <Table
        label="Policies in force"
        rows={rows}
        id={(each) => each.stage + each.name}
        empty="none: whoever shared a network with it in the stack may call it"
        columns={[
          { head: "Policy", cell: (each) => each.name, sort: (each) => each.name },
          { head: "Stage", cell: (each) => each.stage, sort: (each) => each.stage },
          { head: "Rules", cell: (each) => each.what },
          { head: "Decided", numeric: true, cell: (each) => count(all(each.name)), sort: (each) => all(each.name) },
          { head: "Denied here", numeric: true, cell: (each) => count(hits(each.name)), sort: (each) => hits(each.name) },
        ]}
      />
    </Card>
  );
}

function Routes({ snapshot }: { snapshot: Record<string, any> }) {
  const rows: { host: string; port: number; rule: string; target: string; extras: string }[] = [];
  for (const listener of snapshot.outbound ?? [])
    for (const host of listener.virtual_hosts ?? [])
      for (const rule of host.rules ?? [])
        rows.push({
          host: host.host,
          port: listener.port,
          rule: rule.policy ? `${rule.policy}${rule.name ? ` ${rule.name}` : ""}` : "the service itself",
          target: (rule.action.destinations ?? [])
            .map((each: any) => `${each.host || each.cluster}${each.subset ? ` ${each.subset}` : ""}${rule.action.destinations.length > 1 ? ` ${each.weight ?? 100}` : ""}`)
            .join(", ") || rule.action.kind,
          extras: [rule.timeout_s && `timeout ${rule.timeout_s} s`, rule.retry?.attempts !== undefined && `${rule.retry.attempts} retries`, rule.fault && "fault"]
            .filter(Boolean)
            .join(", "),
        });
  return (
    <Card title="Where its calls go">
      {rows.length ? (
        <Table
          label="Routes"
          rows={rows}
          id={(each) => `${each.host}${each.port}${each.rule}${each.target}`}
          empty=""
          columns={[
            { head: "Host", cell: (each) => each.host, sort: (each) => each.host },
            { head: "Port", numeric: true, cell: (each) => each.port, sort: (each) => each.port },
            { head: "Decided by", cell: (each) => each.rule, sort: (each) => each.rule },
            { head: "Goes to", cell: (each) => each.target },
            { head: "With", cell: (each) => <span class="quiet">{each.extras}</span> },
          ]}
        />
      ) : (
        <Empty>it can reach no HTTP service</Empty>
      )}
    </Card>
  );
}
