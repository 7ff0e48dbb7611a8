// Questions before a policy is written: who may do what and why, and what traffic would want. Each shows the
// YAML that it would apply; nothing is applied here but by the editor.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api";
import { percent } from "../format";
import { go, route, withQuery } from "../router";
import { status } from "../state";
import type { Change, Diff, Explanation, Suggestion } from "../types";
import { Badge, Card, Empty, Table, Trouble } from "../ui";

/** The stack that short names mean: that of the destination, else of the first service. */
const stackOf = (name: string): string => name.split("/")[name.includes("/") ? 0 : 1] ?? status.value?.services[0]?.name.split("/")[0] ?? "default";

export function Explain({ onDraft }: { onDraft: (yaml: string) => void }) {
  const asked = route.value.query;
  const found = useSignal<Explanation | null>(null);
  const error = useSignal<unknown>(null);
  const names = status.value?.services.map((each) => each.name) ?? [];
  const field = (name: string, fallback: string) => asked.get(name) ?? fallback;
  const question = {
    source: field("source", ""),
    destination: field("destination", ""),
    method: field("method", "GET"),
    path: field("path", "/"),
  };
  const key = JSON.stringify(question);
  useEffect(() => {
    found.value = null;
    if (!question.source || !question.destination) return;
    call<Explanation>("POST", "/v1/explain", { ...question, namespace: stackOf(question.destination) }).then(
      (answer) => {
        found.value = answer;
        error.value = null;
      },
      (reason) => (error.value = reason),
    );
  }, [key, status.value?.revision]);
  return (
    <Card title="Explain a request">
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          const data = new FormData(event.currentTarget);
          go(withQuery(Object.fromEntries([...data].map(([name, value]) => [name, String(value).trim()]))));
        }}
      >
        <datalist id="services">
          {[...names, "outside"].map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
        <label>
          From
          <input name="source" list="services" required value={question.source} placeholder="shop/web, outside" />
        </label>
        <label>
          To
          <input name="destination" list="services" required value={question.destination} placeholder="shop/api:8080" />
        </label>
        <label>
          Method
          <input name="method" required value={question.method} />
        </label>
        <label>
          Path
          <input name="path" required value={question.path} />
        </label>
        <button type="submit" class="primary">
          Explain
        </button>
      </form>
      <Trouble error={error.value} />
      {found.value && <Explained question={question} answer={found.value} onDraft={onDraft} />}
    </Card>
  );
}

type Question = { source: string; destination: string; method: string; path: string };

/** What an address brought stands in a draft as one text, whatever is in it: YAML reads JSON's. */
const quoted = (text: string): string => JSON.stringify(text);
const pathOf = (question: Question): string => question.path.split("?")[0]!;
const isName = (text: string): boolean => /^[\w.:/-]+$/.test(text);

function Explained({ question, answer, onDraft }: { question: Question; answer: Explanation; onDraft: (yaml: string) => void }) {
  const by = [answer.policy, answer.rule].filter(Boolean).join(" ");
  const target = answer.destinations[0]?.service ?? question.destination.split(":")[0]!;
  return (
    <>
      <p class="verdict">
        <Badge tone={answer.allowed ? "good" : "bad"}>{answer.allowed ? "allowed" : "denied"}</Badge> {by || `at stage ${answer.stage}`}
      </p>
      <p>{answer.reason}</p>
      {answer.destinations.length > 1 && (
        <Table
          label="Destinations"
          rows={answer.destinations}
          id={(each) => `${each.service}${each.subset}`}
          empty=""
          columns={[
            { head: "Destination", cell: (each) => each.service ?? each.host ?? "–" },
            { head: "Share", numeric: true, cell: (each) => percent(each.share) },
            { head: "Verdict", cell: (each) => (each.allowed ? "allowed" : "denied") },
            { head: "By", cell: (each) => [each.policy, each.rule].filter(Boolean).join(" ") || each.stage },
          ]}
        />
      )}
      <Table
        label="What was looked at"
        rows={answer.steps}
        id={(each) => `${each.stage}${each.policy}${each.rule}${each.why}`}
        empty="no policy selects the destination"
        columns={[
          { head: "Stage", cell: (each) => each.stage },
          { head: "Rule", cell: (each) => [each.policy, each.rule].filter(Boolean).join(" ") || "–" },
          { head: "Action", cell: (each) => each.action },
          { head: "Matches", cell: (each) => <Badge tone={each.matched ? "good" : "quiet"}>{each.matched ? "yes" : "no"}</Badge> },
          { head: "Why", cell: (each) => <span class="quiet">{each.why}</span> },
        ]}
      />
      <Turned question={question} answer={answer} target={target} onDraft={onDraft} />
    </>
  );
}

/** What would turn the verdict; what refuses before any policy allows can only be changed itself. */
function Turned({ question, answer, target, onDraft }: { question: Question; answer: Explanation; target: string; onDraft: (yaml: string) => void }) {
  if (!isName(question.source) || !isName(target)) return null;
  if (answer.allowed)
    return (
      <>
        <h3>A policy that denies it</h3>
        <Yaml text={policyFor(question, target, false)} onDraft={onDraft} />
      </>
    );
  const stage = answer.stage.toLowerCase();
  const isNetwork = stage === "network" && question.source !== "outside";
  if (!isNetwork && !["allow", "baseline"].includes(stage))
    return <p class="quiet">Stage {answer.stage} refuses before any policy allows: only a change there lets it pass.</p>;
  return (
    <>
      <h3>A policy that allows it</h3>
      {isNetwork && <p class="quiet">It comes before what refuses in the tier `default`; “Check” tells whether that is enough.</p>}
      <Yaml text={isNetwork ? networkPolicyFor(question, target) : policyFor(question, target, true)} onDraft={onDraft} />
    </>
  );
}

/** The narrowest NetworkPolicy that lets one kind of request pass the network stage. */
function networkPolicyFor(question: Question, target: string): string {
  const namespace = stackOf(target);
  const service = target.split("/").at(-1)!;
  const [stack, caller] = question.source.includes("/") ? question.source.split("/") : [namespace, question.source];
  const where = stack === namespace ? "" : `, namespaceSelector: projectcalico.org/name == '${stack}'`;
  return (
    "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n" +
    `metadata: {name: ${service}-allow-${caller}, namespace: ${namespace}}\n` +
    `spec:\n  order: 0\n  selector: service == '${service}'\n  types: [Ingress]\n  ingress:\n  - action: Allow\n` +
    `    source: {selector: "service == '${caller}'"${where}}\n` +
    `    http: {methods: [${quoted(question.method)}], paths: [{exact: ${quoted(pathOf(question))}}]}\n`
  );
}

/** The narrowest AuthorizationPolicy that turns one verdict. */
function policyFor(question: Question, target: string, allows: boolean): string {
  const namespace = stackOf(target);
  const service = target.split("/").at(-1)!;
  const [stack, caller] = question.source.includes("/") ? question.source.split("/") : [namespace, question.source];
  const from =
    question.source === "outside"
      ? ""
      : `  - from:\n    - source: {serviceAccounts: ["${stack === namespace ? caller : `${stack}/${caller}`}"]}\n`;
  const to = `to:\n    - operation: {methods: [${quoted(question.method)}], paths: [${quoted(pathOf(question))}]}\n`;
  return (
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n" +
    `metadata: {name: ${service}-${allows ? "allow" : "deny"}-${caller}, namespace: ${namespace}}\n` +
    `spec:\n  selector: {matchLabels: {service: ${service}}}\n  action: ${allows ? "ALLOW" : "DENY"}\n  rules:\n` +
    (from ? `${from}    ${to}` : `  - ${to}`)
  );
}

export function Suggest({ onDraft }: { onDraft: (yaml: string) => void }) {
  const found = useSignal<Suggestion[] | null>(null);
  const error = useSignal<unknown>(null);
  useEffect(() => {
    call<{ suggestions: Suggestion[] }>("GET", "/v1/suggest").then(
      (answer) => (found.value = answer.suggestions),
      (reason) => (error.value = reason),
    );
  }, []);
  return (
    <Card title="Suggest least privilege">
      <p class="quiet">
        From what sidecars let in since they are watched. Policies come staged (dry run): they are counted and decide nothing until the annotation goes.
      </p>
      <Trouble error={error.value} />
      {found.value?.length === 0 && <Empty>no request was seen yet</Empty>}
      {found.value?.map((each) => (
        <details key={each.destination} class="policy">
          <summary>
            {each.destination} <Badge tone={each.state === "stable" ? "good" : "warn"}>{each.state}</Badge>{" "}
            <span class="quiet">
              confidence {percent(each.confidence)}, {each.requests} requests
            </span>
          </summary>
          <Yaml text={each.policy} onDraft={onDraft} />
        </details>
      ))}
    </Card>
  );
}

function Yaml({ text, onDraft }: { text: string; onDraft: (yaml: string) => void }) {
  return (
    <>
      <pre tabIndex={0}>{text.trim()}</pre>
      <button type="button" onClick={() => onDraft(text.trim())}>
        Open in the editor
      </button>
    </>
  );
}

/** Which requests a draft would treat otherwise, each with one that shows it. */
export function Differences({ diff }: { diff: Diff }) {
  if (!diff.changes.length && !diff.undetermined.length) return <p role="status">No request is treated otherwise.</p>;
  return (
    <>
      <Table
        label="What would change"
        rows={diff.changes}
        id={(each) => `${each.change}${each.sources}${each.destination}${each.port}${each.before}${JSON.stringify(each.witness)}`}
        empty="nothing that is certain"
        columns={[
          { head: "Change", cell: (each) => <Badge tone={tone(each)}>{each.change}</Badge>, sort: (each) => each.change },
          { head: "From", cell: (each) => each.sources.join(", ") },
          { head: "To", cell: (each) => `${each.destination}:${each.port}` },
          { head: "Before", cell: (each) => <span class="quiet">{each.before}</span> },
          { head: "After", cell: (each) => each.after },
          { head: "For instance", cell: (each) => <code class="path">{instance(each)}</code> },
        ]}
      />
      {diff.undetermined.length > 0 && <p class="warn">{diff.undetermined.length} flows could not be cut into classes; they may differ too.</p>}
    </>
  );
}

const tone = (change: Change) => (change.change.includes("allowed") ? "warn" : change.change.includes("denied") ? "bad" : "quiet");
const instance = ({ witness }: Change): string => [witness.source, "→", witness.method, witness.path].filter(Boolean).join(" ");
