// What was unusual: the events of the watch, newest first, each with the figures it rests on.
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api";
import { ago, count } from "../format";
import { go, route, withQuery } from "../router";
import { inNamespace, status } from "../state";
import type { Events as Answer, MeshEvent } from "../types";
import { Badge, Card, Empty, Table, Trouble } from "../ui";
import { ServiceLink } from "./overview";

const KINDS: Record<string, string> = {
  new_edge: "New call",
  new_identity: "New caller",
  new_path_class: "New path",
  denied_burst: "Denials",
  error_shift: "More errors",
  latency_shift: "Slower",
  mesh_slow: "All slower",
  rate_shift: "Other rate",
  silent_service: "Silent",
};

// What was answered so far: a poll asks for what is new of it only. The control plane keeps a thousand.
const KEPT = 1000;
const found = signal<Answer | null>(null);

function joined(before: Answer | null, now: Answer): Answer {
  const events = new Map((before?.events ?? []).map((each) => [each.id, each]));
  for (const each of now.events) events.set(each.id, each);
  return { ...now, events: [...events.values()].sort((a, b) => a.id - b.id).slice(-KEPT) };
}

export function Events() {
  const error = useSignal<unknown>(null);
  const polled = status.value;
  useEffect(() => {
    const before = found.value;
    call<Answer>("GET", before ? `/v1/events?changed=${before.now}` : "/v1/events").then(
      (answer) => {
        // One that counts from the start again does not hold what it told before.
        const last = before?.events.at(-1)?.id ?? 0;
        found.value = answer.newest < last ? null : joined(before, answer);
        error.value = null;
      },
      (reason) => (error.value = reason),
    );
  }, [polled]);
  const kind = route.value.query.get("kind") ?? "";
  const rows = (found.value?.events ?? [])
    .filter((each) => (!kind || each.kind === kind) && (each.subject.destination === undefined || inNamespace(each.subject.destination)))
    .reverse();
  return (
    <>
      <Trouble error={error.value} />
      {found.value && <Known baseline={found.value.baseline} />}
      <div class="bar">
        <label class="pick">
          <span>Kind</span>
          <select value={kind} onChange={(event) => go(withQuery({ kind: event.currentTarget.value }))}>
            <option value="">all</option>
            {Object.entries(KINDS).map(([value, title]) => (
              <option key={value} value={value}>
                {title}
              </option>
            ))}
          </select>
        </label>
      </div>
      <Card title="Unusual traffic">
        <Table
          label="Events"
          rows={rows}
          id={(each) => String(each.id)}
          empty={found.value ? "nothing unusual was seen" : "asking the control plane…"}
          columns={[
            { head: "When", cell: (each) => <time dateTime={iso(each.at)} title={iso(each.at)}>{ago(iso(each.at))}</time>, sort: (each) => each.at },
            { head: "Kind", cell: (each) => <Badge tone={tone(each)}>{KINDS[each.kind] ?? each.kind}</Badge>, sort: (each) => each.kind },
            { head: "Service", cell: (each) => (each.subject.destination === undefined ? <span class="quiet">the mesh</span> : <ServiceLink name={each.subject.destination} />), sort: (each) => each.subject.destination ?? "" },
            { head: "What", cell: (each) => <What event={each} /> },
            { head: "State", cell: (each) => (each.until === null ? <Badge tone="warn">goes on</Badge> : <span class="quiet">over</span>) },
          ]}
        />
      </Card>
    </>
  );
}

const iso = (seconds: number): string => new Date(seconds * 1000).toISOString();

function tone(event: MeshEvent): "warn" | "bad" | "quiet" {
  if (["error_shift", "denied_burst", "silent_service"].includes(event.kind)) return "bad";
  return event.until === null ? "warn" : "quiet";
}

function What({ event }: { event: MeshEvent }) {
  const figures = Object.entries(event.evidence).map(([name, value]) => `${name.replaceAll("_", " ")} ${value || "–"}`);
  return (
    <>
      <span class="path">{event.text}</span>
      <br />
      <span class="evidence">{figures.join(" · ")}</span>
    </>
  );
}

function Known({ baseline }: { baseline: Answer["baseline"] }) {
  if (!baseline.on) return <Empty>the control plane was started with --anomaly-learning 0: nothing is watched</Empty>;
  const known = `${count(baseline.edges)} edges, ${count(baseline.path_classes)} classes of paths and ${count(baseline.identities)} callers are known`;
  if (baseline.learning_until === null) return <p class="quiet">{known}; what differs for long enough is told here.</p>;
  return (
    <p class="banner" role="status">
      {known}. All traffic is taken for usual until {new Date(baseline.learning_until * 1000).toTimeString().slice(0, 8)}.
    </p>
  );
}
