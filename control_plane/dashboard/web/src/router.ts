// Views have URLs: `#/services/shop/api?tab=routes`. Back, forward, bookmarks and links work.
import { computed, signal } from "@preact/signals";
import { decoded } from "./api"; // which takes the token out of the address first

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed(() => {
  const [path = "", query = ""] = hash.value.replace(/^#/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { page: parts[0] ?? "overview", rest: parts.slice(1), query: new URLSearchParams(query) };
});

/** The address of a page, with the stack that is looked at: that one is kept from page to page. */
export function link(page: string, rest: string[] = [], query: Record<string, string> = {}): string {
  const asked = new URLSearchParams(query);
  const stack = route.value.query.get("stack");
  if (stack) asked.set("stack", stack);
  return address([page, ...rest], asked);
}

function address(parts: string[], query: URLSearchParams): string {
  const path = `#/${parts.flatMap((part) => part.split("/")).map(encodeURIComponent).join("/")}`;
  return query.size ? `${path}?${query}` : path;
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
  return address([route.value.page, ...route.value.rest], query);
}
