import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api";
import { ago, microseconds } from "../format";
import { go, link, route, withQuery } from "../router";
import type { Span, Trace } from "../types";
import { Badge, Card, Empty, Table, Trouble } from "../ui";

interface Envelope<T> {
  data: T;
}

export function Traces({ id }: { id: string | undefined }) {
  return id ? <One id={id} /> : <Find />;
}

function Find() {
  const services = useSignal<string[]>([]);
  const found = useSignal<Trace[] | null>(null);
  const error = useSignal<unknown>(null);
  const query = route.value.query;
  const service = query.get("service") ?? "";
  const only = query.get("only") ?? "";
  const slow = query.get("slow") ?? "";
  useEffect(() => {
    call<Envelope<string[]>>("GET", "/api/services").then(
      (answer) => (services.value = answer.data),
      (reason) => (error.value = reason),
    );
  }, []);
  useEffect(() => {
    if (!service) return;
    const asked = new URLSearchParams({ service, limit: "100" });
    if (only === "errors") asked.set("tags", '{"error":"true"}');
    if (slow) asked.set("minDuration", `${slow}ms`);
    call<Envelope<Trace[]>>("GET", `/api/traces?${asked}`).then(
      (answer) => {
        found.value = [...answer.data].sort((a, b) => start(b) - start(a));
        error.value = null;
      },
      (reason) => (error.value = reason),
    );
  }, [service, only, slow]);
  return (
    <>
      <div class="bar">
        <label>
          Service{" "}
          <select value={service} onChange={(event) => go(withQuery({ service: event.currentTarget.value }))}>
            <option value="">choose one</option>
            {services.value.map((each) => (
              <option key={each} value={each}>
                {each}
              </option>
            ))}
          </select>
        </label>
        <label>
          Which{" "}
          <select value={only} onChange={(event) => go(withQuery({ only: event.currentTarget.value }))}>
            <option value="">all</option>
            <option value="errors">with an error</option>
          </select>
        </label>
        <label>
          At least{" "}
          <input type="number" min="0" size={5} value={slow} onChange={(event) => go(withQuery({ slow: event.currentTarget.value }))} /> ms
        </label>
      </div>
      <Trouble error={error.value} />
      {!service ? (
        <Empty>
          {services.value.length ? "choose a service" : "no span was reported yet: sidecars keep 1 % of requests, and those that failed or were slow"}
        </Empty>
      ) : (
        <Table
          label="Traces"
          rows={found.value ?? []}
          id={(each) => each.traceID}
          empty="no such trace is kept"
          columns={[
            { head: "Trace", cell: (each) => <a href={link("traces", [each.traceID])}>{each.traceID.slice(0, 12)}</a> },
            { head: "Began", cell: (each) => ago(new Date(start(each) / 1000).toISOString()), sort: start },
            { head: "First", cell: (each) => label(first(each), each) },
            { head: "Spans", numeric: true, cell: (each) => each.spans.length, sort: (each) => each.spans.length },
            { head: "Services", cell: (each) => Object.values(each.processes).map((process) => process.serviceName).join(", ") },
            { head: "Took", numeric: true, cell: (each) => microseconds(length(each)), sort: length },
            { head: "", cell: (each) => each.spans.some(isError) && <Badge tone="bad">error</Badge> },
          ]}
        />
      )}
    </>
  );
}

const start = (trace: Trace): number => Math.min(...trace.spans.map((span) => span.startTime));
const end = (trace: Trace): number => Math.max(...trace.spans.map((span) => span.startTime + span.duration));
const length = (trace: Trace): number => end(trace) - start(trace);
const first = (trace: Trace): Span => trace.spans.reduce((a, b) => (b.startTime < a.startTime ? b : a));
const tag = (span: Span, key: string): string => String(span.tags.find((each) => each.key === key)?.value ?? "");
const isError = (span: Span): boolean => tag(span, "error") === "true";
const label = (span: Span, trace: Trace): string => `${trace.processes[span.processID]?.serviceName ?? "?"} ${span.operationName}`;

interface Row {
  span: Span;
  depth: number;
}

/** Spans as a tree, children under their parent by time; a span whose parent is not kept stands at the top. */
function tree(trace: Trace): Row[] {
  const known = new Set(trace.spans.map((span) => span.spanID));
  const below = new Map<string, Span[]>();
  for (const span of [...trace.spans].sort((a, b) => a.startTime - b.startTime)) {
    const parent = span.references[0]?.spanID ?? "";
    const key = known.has(parent) && parent !== span.spanID ? parent : "";
    below.set(key, [...(below.get(key) ?? []), span]);
  }
  const rows: Row[] = [];
  const seen = new Set<string>();
  const walk = (key: string, depth: number): void => {
    for (const span of below.get(key) ?? []) {
      if (seen.has(span.spanID)) continue;
      seen.add(span.spanID);
      rows.push({ span, depth });
      walk(span.spanID, depth + 1);
    }
  };
  walk("", 0);
  return rows;
}

function One({ id }: { id: string }) {
  const trace = useSignal<Trace | null>(null);
  const error = useSignal<unknown>(null);
  const chosen = route.value.query.get("span") ?? "";
  useEffect(() => {
    call<Envelope<Trace[]>>("GET", `/api/traces/${encodeURIComponent(id)}`).then(
      (answer) => (trace.value = answer.data[0] ?? null),
      (reason) => (error.value = reason),
    );
  }, [id]);
  if (error.value) return <Trouble error={error.value} />;
  const found = trace.value;
  if (!found) return <Empty>asking the control plane…</Empty>;
  const [from, whole] = [start(found), Math.max(1, length(found))];
  const span = found.spans.find((each) => each.spanID === chosen);
  return (
    <>
      <p class="crumbs">
        <a href={link("traces")}>search</a> · {found.spans.length} spans · {microseconds(whole)}
      </p>
      <ol class="waterfall">
        {tree(found).map(({ span: each, depth }) => (
          <li key={each.spanID}>
            <a href={withQuery({ span: each.spanID === chosen ? "" : each.spanID })} aria-current={each.spanID === chosen ? "true" : undefined}>
              <span class="what" style={{ paddingLeft: `${depth * 14}px` }}>
                <strong>{found.processes[each.processID]?.serviceName}</strong> {each.operationName}{" "}
                <small>{tag(each, "span.kind")}</small>
              </span>
              <span class="track">
                <span
                  class={isError(each) ? "span bad" : `span ${tag(each, "span.kind")}`}
                  style={{ left: `${(100 * (each.startTime - from)) / whole}%`, width: `${Math.max(0.4, (100 * each.duration) / whole)}%` }}
                />
              </span>
              <span class="took">{microseconds(each.duration)}</span>
            </a>
          </li>
        ))}
      </ol>
      {span && (
        <Card title={label(span, found)}>
          <dl class="pairs">
            {span.tags.map((each) => (
              <div key={each.key}>
                <dt>{each.key}</dt>
                <dd>{String(each.value)}</dd>
              </div>
            ))}
          </dl>
        </Card>
      )}
    </>
  );
}
