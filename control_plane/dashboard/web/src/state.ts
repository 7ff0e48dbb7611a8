// What every page shares: the mesh as of the last poll, its recent past, the theme.
import { computed, effect, signal } from "@preact/signals";
import { ApiError, call, token } from "./api";
import { route } from "./router";
import type { Status } from "./types";

const POLL_MS = 2000;
const PAST = 300; // polls: ten minutes

export const status = signal<Status | null>(null);
export const trouble = signal("");

export interface Moment {
  at_s: number;
  rps: number;
  success: number;
  p99_ms: number | null;
  denied: number;
}

export const past = signal<Moment[]>([]);

export const namespaces = computed(() => {
  const found = new Set(status.value?.services.map((each) => each.name.split("/")[0]!) ?? []);
  return [...found].sort();
});

/** The stack that is looked at, as the address says: a view that is sent to somebody is the same view. */
export const namespace = computed(() => route.value.query.get("stack") ?? "");

export const known = computed(() => new Set(status.value?.services.map((each) => each.name) ?? []));

/** Requests a second by who is called: tables of a thousand services ask for each. */
export const received = computed(() => {
  const found = new Map<string, number>();
  for (const edge of status.value?.edges ?? []) found.set(edge.destination, (found.get(edge.destination) ?? 0) + edge.rps);
  return found;
});

export function inNamespace(name: string): boolean {
  return !namespace.value || name.startsWith(`${namespace.value}/`);
}

function summed(now: Status, before: Status | null, since_s: number): Moment {
  const at_s = Date.now() / 1000;
  const rps = now.edges.reduce((sum, edge) => sum + edge.rps, 0);
  const good = now.edges.reduce((sum, edge) => sum + edge.rps * edge.window_success_ratio, 0);
  const p99 = now.edges.filter((edge) => edge.rps > 0 && edge.p99_ms !== null).map((edge) => edge.p99_ms!);
  const count = (each: Status) =>
    each.edges.reduce((sum, edge) => sum + Object.values(edge.denied).reduce((a, b) => a + b, 0), 0);
  return {
    at_s,
    rps,
    success: rps ? (100 * good) / rps : 100,
    p99_ms: p99.length ? Math.max(...p99) : null,
    denied: before ? Math.max(0, (count(now) - count(before)) / Math.max(1, at_s - since_s)) : 0,
  };
}

async function poll(): Promise<void> {
  if (token.value && !document.hidden) {
    try {
      const now = await call<Status>("GET", "/v1/status");
      past.value = [...past.value.slice(-PAST + 1), summed(now, status.value, past.value.at(-1)?.at_s ?? 0)];
      status.value = now;
      trouble.value = "";
    } catch (error) {
      trouble.value = error instanceof ApiError ? error.message : String(error);
    }
  }
  setTimeout(poll, POLL_MS);
}

export function start(): void {
  void poll();
}

type Theme = "light" | "dark" | "auto";
export const theme = signal<Theme>((localStorage.getItem("meshpy-theme") as Theme) ?? "auto");

effect(() => {
  document.documentElement.dataset.theme = theme.value;
  localStorage.setItem("meshpy-theme", theme.value);
});
