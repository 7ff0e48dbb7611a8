// The few parts that every page is made of.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { ApiError } from "./api";
import { past } from "./state";

export type Tone = "good" | "warn" | "bad" | "quiet";

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function Card({ title, aside, children }: { title: string; aside?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="card">
      <header>
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function Trouble({ error }: { error: unknown }) {
  if (!error) return null;
  const findings = error instanceof ApiError ? (error.findings ?? []) : [];
  return (
    <div class="trouble" role="alert">
      <strong>{error instanceof Error ? error.message : String(error)}</strong>
      {findings.map((each) => (
        <p key={`${each.file}${each.line}${each.message}`}>
          <code>
            {each.file}:{each.line}:{each.column}
          </code>{" "}
          {each.message}
          {each.instead && <em> — {each.instead}</em>}
        </p>
      ))}
    </div>
  );
}

export interface Column<Row> {
  head: string;
  cell: (row: Row) => ComponentChildren;
  sort?: (row: Row) => number | string;
  numeric?: boolean;
}

/** A table that sorts by its heads; at most `limit` rows are drawn, the rest is counted. */
export function Table<Row>(props: {
  label: string;
  columns: Column<Row>[];
  rows: Row[];
  id: (row: Row) => string;
  empty: string;
  limit?: number;
}) {
  const by = useSignal<{ column: number; down: boolean } | null>(null);
  const { columns, limit = 200 } = props;
  let rows = props.rows;
  const chosen = by.value && columns[by.value.column]?.sort;
  if (chosen) {
    const sign = by.value!.down ? -1 : 1;
    rows = [...rows].sort((a, b) => {
      const [x, y] = [chosen(a), chosen(b)];
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    });
  }
  if (!rows.length) return <Empty>{props.empty}</Empty>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={props.label}>
      <table>
        <thead>
          <tr>
            {columns.map((column, index) => {
              const sorted = by.value?.column === index ? (by.value.down ? "descending" : "ascending") : undefined;
              return (
                <th key={column.head} class={column.numeric ? "number" : ""} aria-sort={sorted} scope="col">
                  {column.sort ? (
                    <button
                      type="button"
                      onClick={() => {
                        by.value = { column: index, down: sorted !== "descending" };
                      }}
                    >
                      {column.head}
                      <span aria-hidden="true">{sorted ? (by.value!.down ? " ↓" : " ↑") : ""}</span>
                    </button>
                  ) : (
                    column.head
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, limit).map((row) => (
            <tr key={props.id(row)}>
              {columns.map((column) => (
                <td key={column.head} class={column.numeric ? "number" : ""}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > limit && <Empty>and {rows.length - limit} more: choose a stack or search for fewer</Empty>}
    </div>
  );
}

/** What a custom property is in this theme: a canvas does not know `light-dark()`. */
function resolved(near: HTMLElement, name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  near.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** From the first moment to the last, a minute at least: the newest is at the right edge. */
function span(moments: number[]): [number, number] {
  const last = moments.at(-1) ?? Date.now() / 1000;
  return [Math.min(moments[0] ?? last, last - 60), last];
}

/** A line of the recent past; the figure beside it says the same in words. */
export function Line({ label, pick, unit }: { label: string; pick: (at: number) => number | null; unit: string }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const moments = past.value;
  const data: uPlot.AlignedData = [moments.map((each) => each.at_s), moments.map((_, index) => pick(index))];
  useEffect(() => {
    const colour = (name: string) => resolved(place.current!, name);
    const clock = (at: number) => new Date(at * 1000).toTimeString().slice(0, 8);
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    plot.current = new uPlot(
      {
        width: place.current!.clientWidth,
        height: 120,
        legend: { show: false },
        cursor: { show: false },
        series: [{}, { points: { show: false }, stroke: colour("--accent"), width: 2, fill: colour("--accent-soft"), spanGaps: true }],
        axes: [{ ...axis, size: 28, space: 90, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 54 }],
        padding: [8, 30, 0, 0],
        scales: {
          // Of one moment uPlot makes a day and says so in `low` and `high`: the data itself is asked.
          x: { range: (plot) => span(plot.data[0] as number[]) },
          y: { range: (_, __, high) => [0, Math.max(high ?? 0, 1) * 1.1] },
        },
      },
      data,
      place.current!,
    );
    const resize = () => plot.current?.setSize({ width: place.current!.clientWidth, height: 120 });
    addEventListener("resize", resize);
    return () => {
      removeEventListener("resize", resize);
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData(data));
  const last = data[1]!.at(-1);
  const text = last === null || last === undefined ? "–" : `${last.toFixed(last < 10 ? 1 : 0)} ${unit}`;
  return (
    <figure class="line">
      <figcaption>
        {label} <strong>{text}</strong>
      </figcaption>
      <div ref={place} aria-hidden="true" />
    </figure>
  );
}

export function Search({ label, value, onInput }: { label: string; value: string; onInput: (text: string) => void }) {
  return (
    <label class="search">
      <span class="hidden">{label}</span>
      <input
        type="search"
        placeholder={label}
        value={value}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
    </label>
  );
}
