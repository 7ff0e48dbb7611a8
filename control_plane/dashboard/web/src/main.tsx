import { computed, effect, useSignal } from "@preact/signals";
import { render } from "preact";
import { signIn, signOut, token } from "./api";
import { Authority } from "./pages/authority";
import { Events } from "./pages/events";
import { Graph } from "./pages/graph";
import { Overview } from "./pages/overview";
import { Policies } from "./pages/policies";
import { Requests } from "./pages/requests";
import { ServicePage, Services } from "./pages/services";
import { Sync } from "./pages/sync";
import { Traces } from "./pages/traces";
import { go, link, route, withQuery } from "./router";
import { namespace, namespaces, start, status, theme, trouble } from "./state";
import "./style.css";

const PAGES = [
  ["overview", "Overview"],
  ["graph", "Graph"],
  ["services", "Services"],
  ["requests", "Requests"],
  ["traces", "Traces"],
  ["events", "Events"],
  ["policies", "Policies"],
  ["sync", "Sidecars"],
  ["ca", "Certificates"],
] as const;

const heading = computed(() => {
  const { page, rest } = route.value;
  const title = PAGES.find(([each]) => each === page)?.[1] ?? "Overview";
  return rest.length ? `${title}: ${rest.join("/")}` : title;
});

// Tabs, the history and screen readers tell views apart by their titles (WCAG 2.4.2).
effect(() => {
  document.title = token.value ? `${heading.value} · meshpy` : "Sign in · meshpy";
});

function SignIn() {
  const text = useSignal("");
  return (
    <main class="signin">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          signIn(text.value.trim());
        }}
      >
        <h1>meshpy</h1>
        <p>
          The operator's token is in <code>~/.config/meshpy/context.json</code> where the mesh was installed.
        </p>
        <label>
          Token
          <input
            type="password"
            autocomplete="off"
            value={text.value}
            onInput={(event) => {
              text.value = event.currentTarget.value;
            }}
          />
        </label>
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
    </main>
  );
}

function Top() {
  return (
    <header class="top">
      <a class="brand" href={link("overview")}>
        meshpy
      </a>
      <nav aria-label="Pages">
        {PAGES.map(([page, title]) => (
          <a key={page} href={link(page)} aria-current={route.value.page === page ? "page" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      <label class="pick">
        <span>Stack</span>
        <select
          value={namespace.value}
          onChange={(event) => go(withQuery({ stack: event.currentTarget.value }))}
        >
          <option value="">all</option>
          {namespaces.value.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      </label>
      <label class="pick">
        <span>Theme</span>
        <select
          value={theme.value}
          onChange={(event) => {
            theme.value = event.currentTarget.value as typeof theme.value;
          }}
        >
          <option value="auto">system</option>
          <option value="light">light</option>
          <option value="dark">dark</option>
        </select>
      </label>
      <button type="button" onClick={signOut}>
        Sign out
      </button>
    </header>
  );
}

function Page() {
  const { page, rest } = route.value;
  switch (page) {
    case "graph":
      return <Graph />;
    case "services":
      return rest.length >= 2 ? <ServicePage key={rest.join("/")} name={`${rest[0]}/${rest[1]}`} /> : <Services />;
    case "requests":
      return <Requests />;
    case "events":
      return <Events />;
    case "traces":
      return <Traces id={rest[0]} />;
    case "policies":
      return <Policies revision={rest[0]} />;
    case "sync":
      return <Sync />;
    case "ca":
      return <Authority />;
    default:
      return <Overview />;
  }
}

function App() {
  if (!token.value) return <SignIn />;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>
        Skip to content
      </a>
      <Top />
      {trouble.value && (
        <p class="banner" role="status">
          {trouble.value}; what is shown is {status.value ? "the last answer" : "nothing yet"}
        </p>
      )}
      <main id="main" tabIndex={-1}>
        <h1>{heading.value}</h1>
        <Page />
      </main>
    </>
  );
}

start();
render(<App />, document.getElementById("app")!);
