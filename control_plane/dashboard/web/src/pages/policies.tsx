import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api";
import { ago } from "../format";
import { link, route, withQuery } from "../router";
import { status } from "../state";
import type { Applied, Diff, Policies as Answer, PolicyDocument, Revision, Rollout } from "../types";
import { Badge, Card, Empty, Table, Trouble } from "../ui";
import { Differences, Explain, Suggest } from "./wizards";

export function Policies({ revision }: { revision: string | undefined }) {
  return revision ? <OneRevision number={Number(revision)} /> : <Now />;
}

const TOOLS = [
  ["", "In force"],
  ["explain", "Explain"],
  ["suggest", "Suggest"],
] as const;

const nameOf = (document: PolicyDocument): string => {
  const kind = /^kind:\s*(\S+)/m.exec(document.text)?.[1] ?? "?";
  const name = /\bname:\s*["']?([\w.-]+)/.exec(document.text.slice(document.text.indexOf("metadata")))?.[1] ?? "?";
  return `${kind} ${document.namespace ? `${document.namespace}/` : ""}${name}`;
};

function Now() {
  const policies = useSignal<Answer | null>(null);
  const revisions = useSignal<Revision[]>([]);
  const rollout = useSignal<Rollout | null>(null);
  const error = useSignal<unknown>(null);
  const draft = useSignal<string | null>(null);
  const number = status.value?.revision;
  const tool = route.value.query.get("tool") ?? "";
  const open = (yaml: string) => {
    draft.value = yaml;
    document.getElementById("in-force")?.scrollIntoView();
  };
  const load = () => {
    Promise.all([call<Answer>("GET", "/v1/policies"), call<{ revisions: Revision[] }>("GET", "/v1/revisions?limit=50")]).then(
      ([set, list]) => {
        policies.value = set;
        revisions.value = list.revisions;
        error.value = null;
      },
      (reason) => (error.value = reason),
    );
    call<{ rollout: Rollout | null }>("GET", "/v1/rollout").then(
      (found) => (rollout.value = found.rollout),
      (reason) => (error.value = reason),
    );
  };
  useEffect(load, [number]);
  return (
    <>
      <nav class="tabs" aria-label="Tools">
        {TOOLS.map(([name, title]) => (
          <a key={name} href={withQuery({ tool: name })} aria-current={tool === name ? "page" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      {tool === "explain" && <Explain onDraft={open} />}
      {tool === "suggest" && <Suggest onDraft={open} />}
      <Trouble error={error.value} />
      {rollout.value && <RolloutCard rollout={rollout.value} onChange={load} />}
      <div id="in-force" />
      <Card
        title={policies.value ? `In force: revision ${policies.value.revision}` : "In force"}
        aside={
          <button type="button" onClick={() => (draft.value = draft.value === null ? "" : null)} aria-expanded={draft.value !== null}>
            {draft.value === null ? "Apply a policy…" : "Close"}
          </button>
        }
      >
        {draft.value !== null && (
          <Editor
            key={draft.value}
            text={draft.value}
            onDone={() => {
              draft.value = null;
              load();
            }}
          />
        )}
        {policies.value?.documents.length ? (
          policies.value.documents.map((document) => (
            <details key={`${document.name}:${document.line}`} class="policy">
              <summary>
                {nameOf(document)}{" "}
                <span class="quiet">
                  {document.name}:{document.line}
                </span>
              </summary>
              <pre tabIndex={0}>{document.text.trim()}</pre>
              <button type="button" onClick={() => (draft.value = document.text.trim())}>
                Edit
              </button>
            </details>
          ))
        ) : (
          <Empty>no policy: the mesh behaves as the stacks' networks did</Empty>
        )}
      </Card>
      <Card title="Revisions">
        <Table
          label="Revisions"
          rows={revisions.value}
          id={(each) => String(each.revision)}
          empty="nothing was applied yet"
          columns={[
            { head: "Revision", cell: (each) => <a href={link("policies", [String(each.revision)])}>{each.revision}</a> },
            { head: "When", cell: (each) => <time dateTime={each.created} title={each.created}>{ago(each.created)}</time> },
            { head: "Author", cell: (each) => each.author },
            { head: "Policies", numeric: true, cell: (each) => each.documents },
            { head: "Message", cell: (each) => each.message || "–" },
          ]}
        />
      </Card>
    </>
  );
}

function Editor({ text, onDone }: { text: string; onDone: () => void }) {
  const yaml = useSignal(text);
  const message = useSignal("");
  const checked = useSignal<Applied | null>(null);
  const diff = useSignal<Diff | null>(null);
  const error = useSignal<unknown>(null);
  const send = async (dry: boolean) => {
    const body = { documents: [{ name: "dashboard.yaml", text: yaml.value }], message: message.value };
    try {
      const answer = await call<Applied>("PATCH", `/v1/policies?dry_run=${dry}`, body);
      error.value = null;
      if (dry) {
        checked.value = answer;
        diff.value = null;
        diff.value = await call<Diff>("POST", "/v1/diff", body);
      }
      else onDone();
    } catch (reason) {
      error.value = reason;
      checked.value = null;
    }
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        void send(checked.value === null);
      }}
    >
      <label>
        YAML, as for `meshpy apply`
        <textarea
          rows={14}
          spellcheck={false}
          value={yaml.value}
          onInput={(event) => {
            yaml.value = event.currentTarget.value;
            checked.value = null;
          }}
        />
      </label>
      <label>
        Message
        <input value={message.value} onInput={(event) => (message.value = event.currentTarget.value)} placeholder="why" />
      </label>
      <Trouble error={error.value} />
      {checked.value && (
        <p role="status">
          It is right, and {checked.value.changed_services} service{checked.value.changed_services === 1 ? "" : "s"} would decide otherwise than now.
          {checked.value.warnings.map((each) => (
            <span key={each.message} class="warn">
              {" "}
              {each.message}
            </span>
          ))}
        </p>
      )}
      {checked.value && (diff.value ? <Differences diff={diff.value} /> : <Empty>comparing every class of requests…</Empty>)}
      <div class="bar">
        <button type="submit" class="primary" disabled={!yaml.value.trim()}>
          {checked.value ? "Apply" : "Check"}
        </button>
      </div>
    </form>
  );
}

function RolloutCard({ rollout, onChange }: { rollout: Rollout; onChange: () => void }) {
  const error = useSignal<unknown>(null);
  const open = ["WATCHING", "HELD"].includes(rollout.phase);
  const end = (what: string) =>
    call("POST", `/v1/rollout/${what}`).then(onChange, (reason) => (error.value = reason));
  const tone = rollout.phase === "ROLLED_BACK" ? "bad" : open ? "warn" : "good";
  return (
    <Card title={`Rollout of revision ${rollout.revision}`} aside={<Badge tone={tone}>{rollout.phase}</Badge>}>
      <p>
        {rollout.canary ? `${rollout.canaries.length} canaries (${rollout.canary} of each service)` : "every sidecar"}: {rollout.seen.requests} requests,{" "}
        {rollout.seen.denied} denied, {rollout.seen.errors} failed; without it {rollout.without.requests}, {rollout.without.denied}, {rollout.without.errors}.{" "}
        {rollout.reason}
      </p>
      <Trouble error={error.value} />
      {open && rollout.canary && (
        <div class="bar">
          <button type="button" class="primary" onClick={() => end("promote")}>
            Promote
          </button>
          <button type="button" onClick={() => end("abort")}>
            Abort
          </button>
        </div>
      )}
    </Card>
  );
}

function OneRevision({ number }: { number: number }) {
  const now = useSignal<Answer | null>(null);
  const before = useSignal<Answer | null>(null);
  const error = useSignal<unknown>(null);
  const done = useSignal("");
  useEffect(() => {
    Promise.all([call<Answer>("GET", `/v1/revisions/${number}`), call<Answer>("GET", `/v1/revisions/${Math.max(0, number - 1)}`)]).then(
      ([after, earlier]) => {
        now.value = after;
        before.value = earlier;
      },
      (reason) => (error.value = reason),
    );
  }, [number]);
  if (!now.value || !before.value) return error.value ? <Trouble error={error.value} /> : <Empty>asking the control plane…</Empty>;
  const { created, author, message } = now.value;
  const changes = compare(before.value.documents, now.value.documents);
  return (
    <>
      <p class="crumbs">
        <a href={link("policies")}>in force</a> · {ago(created)} by {author} {message && `· ${message}`}
      </p>
      <Trouble error={error.value} />
      {done.value && <p role="status">{done.value}</p>}
      {status.value && number !== status.value.revision && (
        <button
          type="button"
          onClick={() =>
            call<Applied>("POST", `/v1/revisions/${number}/rollback`).then(
              (answer) => (done.value = `revision ${answer.revision} brings it back`),
              (reason) => (error.value = reason),
            )
          }
        >
          Bring this revision back
        </button>
      )}
      {changes.length === 0 && <Empty>it changed nothing</Empty>}
      {changes.map((change) => (
        <Card key={change.name} title={change.name} aside={<Badge tone={change.what === "removed" ? "bad" : change.what === "added" ? "good" : "warn"}>{change.what}</Badge>}>
          <pre class="diff" tabIndex={0}>
            {change.lines.map((line, index) => (
              <span key={index} class={line[0] === "+" ? "plus" : line[0] === "-" ? "minus" : ""}>
                {line}
                {"\n"}
              </span>
            ))}
          </pre>
        </Card>
      ))}
    </>
  );
}

interface Change {
  name: string;
  what: "added" | "removed" | "changed";
  lines: string[];
}

function compare(old: PolicyDocument[], fresh: PolicyDocument[]): Change[] {
  const before = new Map(old.map((each) => [nameOf(each), each.text.trim()]));
  const after = new Map(fresh.map((each) => [nameOf(each), each.text.trim()]));
  const changes: Change[] = [];
  for (const name of [...new Set([...before.keys(), ...after.keys()])].sort()) {
    const [a, b] = [before.get(name), after.get(name)];
    if (a === b) continue;
    changes.push({
      name,
      what: a === undefined ? "added" : b === undefined ? "removed" : "changed",
      lines: difference(a?.split("\n") ?? [], b?.split("\n") ?? []),
    });
  }
  return changes;
}

/** The longest common subsequence as a diff; policies are short. */
function difference(a: string[], b: string[]): string[] {
  const size = (n: number, m: number) => Array.from({ length: n + 1 }, () => new Array<number>(m + 1).fill(0));
  const best = size(a.length, b.length);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i]![j] = a[i] === b[j] ? best[i + 1]![j + 1]! + 1 : Math.max(best[i + 1]![j]!, best[i]![j + 1]!);
  const lines: string[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push(` ${a[i]}`);
      i++;
      j++;
    } else if (j < b.length && (i === a.length || best[i]![j + 1]! > best[i + 1]![j]!)) lines.push(`+${b[j++]}`);
    else lines.push(`-${a[i++]}`);
  }
  return lines;
}
