// Views have URLs: `#/services/shop/api?tab=routes`. Back, forward, bookmarks and links work.
import { computed, signal } from "@preact/signals";

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed(() => {
  const [path = "", query = ""] = hash.value.replace(/^#/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { page: parts[0] ?? "overview", rest: parts.slice(1), query: new URLSearchParams(query) };
});

export function link(...parts: string[]): string {
  return `#/${parts.flatMap((part) => part.split("/")).map(encodeURIComponent).join("/")}`;
}

export function go(to: string): void {
  location.hash = to;
}

/** The address of this view with other values of its query; empty ones are left out. */
export function withQuery(changes: Record<string, string>): string {
  const query = new URLSearchParams(route.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const path = link(route.value.page, ...route.value.rest);
  return query.size ? `${path}?${query}` : path;
}
