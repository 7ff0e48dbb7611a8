// The service graph: layered from callers to callees, drawn as SVG so that it can be read by keyboard and
// screen reader; what is chosen shows its neighbours, the rest steps back.
import dagre from "@dagrejs/dagre";
import { computed, useSignal } from "@preact/signals";
import { denials, milliseconds, percent, perSecond } from "../format";
import { go, link, route, withQuery } from "../router";
import { inNamespace, namespace, status } from "../state";
import type { Edge, Service } from "../types";
import { Card, Empty, Search } from "../ui";
import { EdgeTable } from "./overview";

const WIDTH = 168;
const HEIGHT = 46;
const MOST = 120;
const GAP = 18;
/** With more calls than this their figures are told of the chosen service alone. */
const LABELLED = 40;

interface Node {
  name: string;
  service: Service | undefined;
  x: number;
  y: number;
}

interface Point {
  x: number;
  y: number;
}

interface Arc {
  edge: Edge;
  points: Point[];
}

/** A call that goes on to the right leaves its caller on the right and reaches its callee on the left. */
function fromSideToSide(points: Point[], graph: InstanceType<typeof dagre.graphlib.Graph>, edge: Edge): Point[] {
  const [from, to] = [graph.node(key(edge.source)) as Point, graph.node(key(edge.destination)) as Point];
  if (to.x <= from.x) return points;
  return [{ x: from.x + WIDTH / 2, y: from.y }, ...points.slice(1, -1), { x: to.x - WIDTH / 2 - 2, y: to.y }];
}

interface Drawing {
  nodes: Node[];
  arcs: Arc[];
  width: number;
  height: number;
  left_out: number;
}

const title = (name: string): string => name || "outside";
/** dagre takes no empty name, which is what callers without identity have. */
const key = (name: string): string => `:${name}`;

function summed(a: Record<string, number>, b: Record<string, number>): Record<string, number> {
  const found = { ...a };
  for (const [policy, count] of Object.entries(b)) found[policy] = (found[policy] ?? 0) + count;
  return found;
}

/** Edges of one pair of services, whatever their protocols, as one arc. */
function joined(edges: Edge[]): Edge[] {
  const found = new Map<string, Edge>();
  for (const edge of edges) {
    const key = `${edge.source}>${edge.destination}`;
    const held = found.get(key);
    if (!held) {
      found.set(key, edge);
      continue;
    }
    const rps = held.rps + edge.rps;
    found.set(key, {
      ...held,
      rps,
      protocol: held.protocol === edge.protocol ? held.protocol : `${held.protocol}, ${edge.protocol}`,
      window_success_ratio: rps
        ? (held.rps * held.window_success_ratio + edge.rps * edge.window_success_ratio) / rps
        : Math.min(held.window_success_ratio, edge.window_success_ratio),
      mtls_ratio: Math.min(held.mtls_ratio, edge.mtls_ratio),
      p99_ms: Math.max(held.p99_ms ?? 0, edge.p99_ms ?? 0) || null,
      denied: summed(held.denied, edge.denied),
    });
  }
  return [...found.values()];
}

interface Wanted {
  edges: Edge[];
  services: Service[];
  /** Services by stack, when there are too many to be drawn one by one. */
  stacks: Map<string, Service[]> | null;
  /** What the table below tells: calls of services, the busiest first where there are many. */
  listed: Edge[];
}

const wanted = computed<Wanted>(() => {
  const text = (route.value.query.get("q") ?? "").toLowerCase();
  const now = status.value;
  if (!now) return { edges: [], services: [], stacks: null, listed: [] };
  const at = route.value.query.get("at") ?? "";
  const holds = (name: string) => inNamespace(name) && name.toLowerCase().includes(text);
  const services = now.services.filter((each) => holds(each.name));
  const edges = joined(now.edges.filter((edge) => holds(edge.source) || holds(edge.destination)));
  if (services.length <= MOST || namespace.value) return { edges, services, stacks: null, listed: edges };
  if (at) {
    // Too many to draw, and one is chosen: itself and whoever it speaks to.
    const near = edges.filter((edge) => edge.source === at || edge.destination === at);
    const names = new Set([at, ...near.flatMap((edge) => [edge.source, edge.destination])]);
    return { edges: near, services: services.filter((each) => names.has(each.name)), stacks: null, listed: near };
  }
  const stacks = new Map<string, Service[]>();
  for (const each of services) {
    const stack = stackOf(each.name);
    stacks.set(stack, [...(stacks.get(stack) ?? []), each]);
  }
  const between = edges.filter((edge) => stackOf(edge.source) !== stackOf(edge.destination));
  return {
    edges: joined(between.map((edge) => ({ ...edge, source: stackOf(edge.source), destination: stackOf(edge.destination) }))),
    services: [],
    stacks,
    listed: [...edges].sort((a, b) => b.rps - a.rps),
  };
});

function stackOf(name: string): string {
  return name.split("/")[0] ?? "";
}

/** Changes only when a service or an edge comes or goes: figures move, boxes do not. */
const shape = computed(() => {
  const { edges, services, stacks } = wanted.value;
  const names = new Set([...services.map((each) => each.name), ...(stacks?.keys() ?? []), ...edges.flatMap((edge) => [edge.source, edge.destination])]);
  return JSON.stringify([[...names].sort(), edges.map((edge) => [edge.source, edge.destination]).sort()]);
});

const placed = computed(() => {
  const [names, pairs] = JSON.parse(shape.value) as [string[], [string, string][]];
  const busy = new Set(pairs.flat());
  const shown = [...names.filter((name) => busy.has(name)), ...names.filter((name) => !busy.has(name))].slice(0, MOST);
  const kept = new Set(shown);
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 128, marginx: 16, marginy: 16 });
  for (const name of shown) if (busy.has(name)) graph.setNode(key(name), { width: WIDTH, height: HEIGHT });
  for (const [from, to] of pairs) if (kept.has(from) && kept.has(to)) graph.setEdge(key(from), key(to), {});
  if (busy.size) dagre.layout(graph);
  inRows(graph, shown.filter((name) => !busy.has(name)));
  return { graph, shown, left_out: names.length - shown.length };
});

/** Who speaks to nobody stands below in rows; dagre would make one long column of them. */
function inRows(graph: InstanceType<typeof dagre.graphlib.Graph>, quiet: string[]): void {
  const size = graph.graph() as { width?: number; height?: number };
  const [width, height] = [Math.max(0, size.width ?? 0), Math.max(0, size.height ?? 0)];
  const across = Math.max(6, Math.floor(width / (WIDTH + GAP)));
  quiet.forEach((name, index) => {
    const [row, column] = [Math.floor(index / across), index % across];
    graph.setNode(key(name), {
      width: WIDTH,
      height: HEIGHT,
      x: GAP + WIDTH / 2 + column * (WIDTH + GAP),
      y: height + GAP + HEIGHT / 2 + row * (HEIGHT + GAP),
    });
  });
  if (!quiet.length) return;
  size.width = Math.max(width, Math.min(quiet.length, across) * (WIDTH + GAP) + GAP);
  size.height = height + Math.ceil(quiet.length / across) * (HEIGHT + GAP) + GAP;
}

const drawing = computed<Drawing>(() => {
  const { graph, shown, left_out } = placed.value;
  const { edges } = wanted.value;
  const services = new Map(status.value?.services.map((each) => [each.name, each]) ?? []);
  const size = graph.graph() as { width?: number; height?: number };
  return {
    nodes: shown.map((name) => {
      const at = graph.node(key(name)) as { x: number; y: number };
      return { name, service: services.get(name), x: at.x, y: at.y };
    }),
    arcs: edges.flatMap((edge) => {
      const found = graph.edge(key(edge.source), key(edge.destination)) as { points: Point[] } | undefined;
      return found ? [{ edge, points: fromSideToSide(found.points, graph, edge) }] : [];
    }),
    width: Math.max(size.width ?? 0, 320),
    height: Math.max(size.height ?? 0, 120),
    left_out,
  };
});

export function Graph() {
  const chosen = route.value.query.get("at") ?? "";
  const zoom = useSignal(1);
  const { nodes, arcs, width, height, left_out } = drawing.value;
  const { stacks } = wanted.value;
  if (!status.value) return <Empty>asking the control plane…</Empty>;
  const isNear = (edge: Edge) => edge.source === chosen || edge.destination === chosen;
  const near = new Set(arcs.filter(({ edge }) => isNear(edge)).flatMap(({ edge }) => [edge.source, edge.destination]));
  const isFar = (name: string) => chosen !== "" && name !== chosen && !near.has(name);
  return (
    <>
      <div class="bar">
        <Search label="Service" value={route.value.query.get("q") ?? ""} onInput={(q) => go(withQuery({ q }))} />
        <button type="button" aria-label="Smaller" onClick={() => (zoom.value = Math.max(0.2, zoom.value / 1.25))}>−</button>
        <button type="button" aria-label="Larger" onClick={() => (zoom.value = Math.min(2.5, zoom.value * 1.25))}>+</button>
        <button type="button" onClick={() => (zoom.value = fitting(width))}>Fit</button>
        {chosen && (
          <>
            <a href={link("services", [chosen])}>{chosen}</a>
            <button type="button" onClick={() => go(withQuery({ at: "" }))}>show all</button>
          </>
        )}
        <span class="quiet">
          {stacks ? `${[...stacks.values()].reduce((sum, each) => sum + each.length, 0)} services in ${stacks.size} stacks: choose one to see its services` : `${nodes.length} services`}
          {left_out > 0 && `, ${left_out} left out: search for fewer`}
        </span>
      </div>
      {nodes.length === 0 ? (
        <Empty>no service holds that</Empty>
      ) : (
        <div class="canvas" tabIndex={0} role="region" aria-label="Service graph">
          <svg width={width * zoom.value} height={height * zoom.value} viewBox={`0 0 ${width} ${height}`} role="group" aria-label="Services and their calls">
            <defs>
              <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse">
                <path d="M0 0 8 4 0 8z" class="tip" />
              </marker>
            </defs>
            {arcs.map((arc) => (
              <ArcShape key={`${arc.edge.source}>${arc.edge.destination}`} arc={arc} isNear={isNear(arc.edge)} isFar={chosen !== "" && !isNear(arc.edge)} isFew={arcs.length <= LABELLED} />
            ))}
            {nodes.map((node) =>
              stacks?.has(node.name) ? (
                <StackShape key={node.name} node={node} services={stacks.get(node.name)!} />
              ) : (
                <NodeShape key={node.name} node={node} isChosen={node.name === chosen} isFar={isFar(node.name)} />
              ),
            )}
          </svg>
        </div>
      )}
      <Card title={chosen ? `Calls of ${chosen}` : "Calls"}>
        <EdgeTable edges={chosen ? wanted.value.listed.filter((edge) => edge.source === chosen || edge.destination === chosen) : wanted.value.listed} />
      </Card>
    </>
  );
}

/** The scale at which the whole width is seen. */
function fitting(width: number): number {
  const seen = document.querySelector(".canvas")?.clientWidth ?? width;
  return Math.min(1, Math.max(0.2, seen / width));
}

function tone(edge: Edge): string {
  if (edge.rps === 0) return "quiet";
  if (edge.window_success_ratio < 0.95) return "bad";
  return edge.window_success_ratio < 0.99 ? "warn" : "good";
}

interface ArcProps {
  arc: Arc;
  isNear: boolean;
  isFar: boolean;
  isFew: boolean;
}

function ArcShape({ arc: { edge, points }, isNear, isFar, isFew }: ArcProps) {
  const [first, ...rest] = points;
  const path = `M${first!.x} ${first!.y}${curve(points) || rest.map((p) => `L${p.x} ${p.y}`).join("")}`;
  const middle = points[Math.floor(points.length / 2)]!;
  const denied = denials(edge.denied);
  const rate = edge.rps > 0 ? `${perSecond(edge.rps)}/s` : "";
  const words = `${title(edge.source)} calls ${title(edge.destination)}: ${perSecond(edge.rps)} requests per second, ${percent(edge.window_success_ratio)} successful, p99 ${milliseconds(edge.p99_ms)}, ${edge.mtls_ratio === 1 ? "mTLS" : "not mTLS"}${denied ? `, ${denied} denied` : ""}`;
  return (
    <g class={`arc ${tone(edge)} ${isFar ? "far" : ""}`} role="img" aria-label={words}>
      <title>{words}</title>
      <path d={path} marker-end="url(#tip)" stroke-width={1 + Math.min(3, Math.log10(1 + edge.rps))} />
      {edge.source && edge.destination && <Lock at={{ x: middle.x - 3 * rate.length - 10, y: middle.y - 14 }} closed={edge.mtls_ratio === 1} />}
      <text x={middle.x} y={middle.y - 6} text-anchor="middle">
        {rate}
      </text>
      {rate && (isFew || isNear) && !isFar && (
        <text x={middle.x} y={middle.y + 12} text-anchor="middle" class="under">
          {`${percent(edge.window_success_ratio)} · ${milliseconds(edge.p99_ms)}`}
        </text>
      )}
      {denied > 0 && <circle class="denied" cx={middle.x + 3 * rate.length + 8} cy={middle.y - 10} r="4" />}
    </g>
  );
}

function Lock({ at, closed }: { at: Point; closed: boolean }) {
  return (
    <g class={closed ? "lock" : "lock open"} transform={`translate(${at.x} ${at.y})`}>
      <rect x="0" y="4" width="8" height="6" rx="1.2" />
      <path d={closed ? "M1.6 4V2.6a2.4 2.4 0 0 1 4.8 0V4" : "M1.6 4V2.4a2.4 2.4 0 0 1 4.6-.9"} />
    </g>
  );
}

function curve(points: Point[]): string {
  let path = "";
  for (let at = 1; at < points.length; at++) {
    const [from, to] = [points[at - 1]!, points[at]!];
    const bend = (to.x - from.x) / 2;
    path += `C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
  }
  return path;
}

function state(service: Service | undefined): [string, string] {
  if (!service) return ["outside", "outside the mesh"];
  if (service.exempt) return ["exempt", `not meshed: ${service.exempt}`];
  if (service.endpoints === 0) return ["down", "no endpoint"];
  if (service.synced < service.sidecars) return ["late", `${service.sidecars - service.synced} sidecars are not in sync`];
  return ["", `${service.endpoints} endpoint${service.endpoints === 1 ? "" : "s"}`];
}

/** A stack in the place of its services: how many, how many are unwell, and a way into it. */
function StackShape({ node, services }: { node: Node; services: Service[] }) {
  const kinds = services.map((each) => state(each)[0]);
  const count = (kind: string) => kinds.filter((each) => each === kind).length;
  const unwell = count("down") + count("late");
  const words = `${services.length} services${unwell ? `, ${unwell} unwell` : ""}${count("exempt") ? `, ${count("exempt")} not meshed` : ""}`;
  const name = node.name.length > 21 ? `${node.name.slice(0, 20)}…` : node.name;
  return (
    <a href={withQuery({ stack: node.name, q: "" })} class={`node stack ${unwell ? "late" : ""}`}>
      <title>{`Stack ${node.name}: ${words}`}</title>
      <rect x={node.x - WIDTH / 2} y={node.y - HEIGHT / 2} width={WIDTH} height={HEIGHT} rx="8" />
      <text x={node.x - WIDTH / 2 + 12} y={node.y - 3}>{name}</text>
      <text x={node.x - WIDTH / 2 + 12} y={node.y + 14} class="under">
        {`${services.length} services${unwell ? ` · ${unwell} unwell` : count("exempt") ? ` · ${count("exempt")} not meshed` : ""}`}
      </text>
    </a>
  );
}

function NodeShape({ node, isChosen, isFar }: { node: Node; isChosen: boolean; isFar: boolean }) {
  const [kind, words] = state(node.service);
  const [stack, name] = node.name.includes("/") ? node.name.split("/", 2) : ["", title(node.name)];
  const text = name!.length > 21 ? `${name!.slice(0, 20)}…` : name;
  const below = [stack, kind === "exempt" ? "not meshed" : words].filter(Boolean).join(" · ");
  const under = below.length > 27 ? `${below.slice(0, 26)}…` : below;
  return (
    <a
      href={withQuery({ at: isChosen ? "" : node.name })}
      class={`node ${kind} ${isChosen ? "chosen" : ""} ${isFar ? "far" : ""}`}
    >
      <title>{`${title(node.name)}: ${words}`}</title>
      <rect x={node.x - WIDTH / 2} y={node.y - HEIGHT / 2} width={WIDTH} height={HEIGHT} rx="8" />
      <text x={node.x - WIDTH / 2 + 12} y={node.y - 3}>{text}</text>
      <text x={node.x - WIDTH / 2 + 12} y={node.y + 14} class="under">
        {under}
      </text>
    </a>
  );
}
