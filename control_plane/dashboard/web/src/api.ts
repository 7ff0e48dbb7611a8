// Calls of the operator API. The token stays in this tab (sessionStorage) and in the Authorization header;
// a link may carry it after `#token=`, which browsers do not send to any server.
import { signal } from "@preact/signals";
import type { Finding } from "./types";

const KEY = "meshpy-token";

/** A part of an address; one that is malformed means itself, and finds nothing. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function tokenFromLink(): string {
  const found = /(?:^#|&)token=([^&]+)/.exec(location.hash);
  if (!found) return sessionStorage.getItem(KEY) ?? "";
  const token = decoded(found[1]!);
  sessionStorage.setItem(KEY, token);
  history.replaceState(null, "", location.pathname + "#/");
  return token;
}

export const token = signal(tokenFromLink());

export function signIn(text: string): void {
  sessionStorage.setItem(KEY, text);
  token.value = text;
}

export function signOut(): void {
  sessionStorage.removeItem(KEY);
  token.value = "";
}

/** A refusal of the API, or no answer (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly findings: Finding[] = [],
  ) {
    super(message);
  }
}

export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Authorization: `Bearer ${token.value}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(`..${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new ApiError(0, "the control plane does not answer");
  }
  const data = await answer.json().catch(() => ({}));
  if (answer.ok) return data as T;
  if (answer.status === 401) signOut();
  const jaeger = data.errors?.[0]?.msg as string | undefined;
  throw new ApiError(answer.status, data.detail || jaeger || data.title || `refused (${answer.status})`, jaeger ? [] : data.errors);
}
