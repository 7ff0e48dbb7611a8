// The last requests of the mesh, as `meshpy logs` shows them: asked of the sidecars' memory every two seconds.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api";
import { milliseconds } from "../format";
import { go, link, route, withQuery } from "../router";
import { inNamespace, status } from "../state";
import type { Requests as Answer, SeenRequest } from "../types";
import { Badge, Table, Trouble } from "../ui";
import { ServiceLink } from "./overview";

const FIELDS = [
  ["source", "From", "web, outside"],
  ["destination", "To", "api"],
  ["method", "Method", "GET"],
  ["path", "Path begins with", "/orders"],
  ["status", "Status begins with", "5"],
  ["min_ms", "Slower than, ms", "250"],
] as const;
const CHOICES = [
  ["verdict", "Verdict", ["FORWARDED", "DENIED", "ERROR", "AUDIT"]],
  ["direction", "Told by", ["in", "out"]],
] as const;
const WORDS: Record<string, string> = { in: "the callee", out: "the caller" };

export function Requests() {
  const found = useSignal<Answer | null>(null);
  const error = useSignal<unknown>(null);
  const paused = useSignal(false);
  const query = route.value.query.toString();
  const polled = paused.value ? null : status.value;
  useEffect(() => {
    if (paused.value) return;
    const asked = new URLSearchParams(query);
    asked.delete("stack");
    asked.set("limit", "200");
    call<Answer>("GET", `/v1/requests?${asked}`).then(
      (answer) => {
        found.value = answer;
        error.value = null;
      },
      (reason) => (error.value = reason),
    );
  }, [query, polled, paused.value]);
  const rows = (found.value?.requests ?? []).filter((each) => inNamespace(each.source) || inNamespace(each.destination)).reverse();
  const missing = found.value?.sidecars_without_answer ?? 0;
  return (
    <>
      <form class="fields" onSubmit={(event) => event.preventDefault()}>
        {FIELDS.map(([name, title, hint]) => (
          <label key={name}>
            {title}
            <input
              placeholder={hint}
              value={route.value.query.get(name) ?? ""}
              onChange={(event) => go(withQuery({ [name]: event.currentTarget.value.trim() }))}
            />
          </label>
        ))}
        {CHOICES.map(([name, title, values]) => (
          <label key={name}>
            {title}
            <select value={route.value.query.get(name) ?? ""} onChange={(event) => go(withQuery({ [name]: event.currentTarget.value }))}>
              <option value="">all</option>
              {values.map((each) => (
                <option key={each} value={each}>
                  {WORDS[each] ?? each}
                </option>
              ))}
            </select>
          </label>
        ))}
      </form>
      <div class="bar">
        <button type="button" aria-pressed={paused.value} onClick={() => (paused.value = !paused.value)}>
          {paused.value ? "Go on" : "Pause"}
        </button>
        <span class="quiet">
          the last 30 seconds, newest first; no headers, no queries
          {missing > 0 && ` · ${missing} sidecars did not answer`}
        </span>
      </div>
      <Trouble error={error.value} />
      <Table
        label="Requests"
        rows={rows}
        id={(each) => `${each.at}${each.direction}${each.trace_id}${each.path}${each.duration_ms}`}
        empty={found.value ? "no request of the last 30 seconds is so" : "asking the sidecars…"}
        columns={[
          { head: "Time", cell: (each) => new Date(each.at * 1000).toTimeString().slice(0, 8), sort: (each) => each.at },
          { head: "From", cell: (each) => (each.source ? <ServiceLink name={each.source} /> : "outside"), sort: (each) => each.source },
          { head: "To", cell: (each) => <ServiceLink name={each.destination} />, sort: (each) => each.destination },
          { head: "Request", cell: (each) => <span class="path">{`${each.method} ${each.path}`}</span>, sort: (each) => each.path },
          { head: "Answer", cell: (each) => <Answered request={each} />, sort: (each) => each.status },
          { head: "Took", numeric: true, cell: (each) => milliseconds(each.duration_ms), sort: (each) => each.duration_ms },
          { head: "Told by", cell: (each) => <span class="quiet">{WORDS[each.direction]}</span>, sort: (each) => each.direction },
          { head: "Trace", cell: (each) => (each.trace_id ? <a href={link("traces", [each.trace_id])}>{each.trace_id.slice(0, 8)}</a> : "–") },
        ]}
      />
    </>
  );
}

function Answered({ request }: { request: SeenRequest }) {
  const tone = request.verdict === "DENIED" ? "bad" : request.verdict === "ERROR" ? "warn" : "good";
  const by = `${request.policy} ${request.rule}`.trimEnd();
  const why = request.verdict === "DENIED" ? ` by ${by}` : request.verdict === "AUDIT" ? ` noticed by ${by}` : "";
  return (
    <>
      <Badge tone={tone}>{request.verdict === "DENIED" ? "denied" : request.status || "none"}</Badge>{" "}
      <span class="quiet">
        {why}
        {request.flags !== "-" && ` ${request.flags}`}
        {request.attempts > 1 && ` ${request.attempts} tries`}
        {!request.mtls && " not mTLS"}
      </span>
    </>
  );
}
