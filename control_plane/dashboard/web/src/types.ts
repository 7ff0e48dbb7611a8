// What the operator API answers, as far as the page reads it (GET /openapi.json is the reference).

export interface Edge {
  source: string;
  destination: string;
  protocol: string;
  rps: number;
  success_ratio: number;
  window_success_ratio: number;
  p50_ms: number | null;
  p99_ms: number | null;
  mtls_ratio: number;
  requests: number;
  connections: number;
  retries: number;
  denied: Record<string, number>;
  responses: Record<string, number>;
}

export interface Service {
  name: string;
  endpoints: number;
  sidecars: number;
  synced: number;
  exempt: string;
}

export interface Sidecar {
  service: string;
  task: string;
  node: string;
  address: string;
  meshpy: string;
  state: string;
  version: string;
  held: string;
  revision: number;
  canary: boolean;
  reason: string;
  certificate_not_after: string;
}

export interface Status {
  revision: number;
  trust_domain: string;
  problems: string[];
  discovery: { source: string; problem: string; failures: number; age_s: number | null };
  services: Service[];
  sidecars: Sidecar[];
  edges: Edge[];
}

export interface PolicyDocument {
  name: string;
  text: string;
  namespace: string;
  line: number;
}

export interface Policies {
  revision: number;
  created: string;
  author: string;
  message: string;
  documents: PolicyDocument[];
}

export interface Revision {
  revision: number;
  created: string;
  author: string;
  message: string;
  documents: number;
}

export interface Finding {
  file: string;
  line: number;
  column: number;
  key: string;
  message: string;
  instead: string;
}

export interface Applied {
  revision: number;
  dry_run: boolean;
  changed_services: number;
  warnings: Finding[];
}

export interface Figures {
  requests: number;
  denied: number;
  errors: number;
}

export interface Rollout {
  revision: number;
  message: string;
  phase: string;
  reason: string;
  canary: string | null;
  canaries: { service: string; task: string }[];
  services: string[];
  remaining_s: number;
  seen: Figures;
  without: Figures;
}

export interface Certificate {
  subject: string;
  serial: string;
  not_before: string;
  not_after: string;
}

export interface Authority {
  trust_domain: string;
  roots: Certificate[];
  intermediate: Certificate;
  leaf_ttl_s: number;
  issued: number;
  refused: number;
}

export interface Denied {
  denied: { service: string; message: string }[];
}

export interface Tag {
  key: string;
  type: string;
  value: string | number | boolean;
}

export interface Span {
  traceID: string;
  spanID: string;
  operationName: string;
  references: { spanID: string }[];
  startTime: number;
  duration: number;
  tags: Tag[];
  processID: string;
}

export interface Trace {
  traceID: string;
  spans: Span[];
  processes: Record<string, { serviceName: string }>;
}

export interface ServiceDetail {
  service: string;
  exempt: string;
  labels: Record<string, string>;
  ports: { number: number; protocol: string; published: boolean }[];
  hosts: string[];
  endpoints: { address: string; port: number; node: string }[];
  snapshot: Record<string, any> | null;
}

export interface MeshEvent {
  id: number;
  kind: string;
  subject: Record<string, string>;
  evidence: Record<string, string | number>;
  text: string;
  at: number;
  until: number | null;
}

export interface Events {
  events: MeshEvent[];
  now: number;
  newest: number;
  baseline: { on: boolean; learning_until: number | null; edges: number; path_classes: number; identities: number };
}

export interface SeenRequest {
  at: number;
  direction: string;
  source: string;
  destination: string;
  mtls: boolean;
  method: string;
  path: string;
  status: number;
  flags: string;
  verdict: string;
  duration_ms: number;
  attempts: number;
  policy: string;
  rule: string;
  trace_id: string;
}

export interface Requests {
  requests: SeenRequest[];
  sidecars_without_answer: number;
}

export interface Explanation {
  allowed: boolean;
  stage: string;
  policy: string | null;
  rule: string | null;
  reason: string;
  destinations: {
    service: string | null;
    host: string | null;
    subset: string | null;
    share: number;
    allowed: boolean;
    stage: string;
    policy: string | null;
    rule: string | null;
  }[];
  steps: { stage: string; policy: string | null; rule: string | null; action: string; matched: boolean; why: string }[];
}

export interface Suggestion {
  destination: string;
  state: string;
  confidence: number;
  requests: number;
  policy: string;
}

export interface Change {
  change: string;
  sources: string[];
  destination: string;
  port: number;
  before: string;
  after: string;
  witness: { source: string; method: string | null; path: string | null };
}

export interface Diff {
  changes: Change[];
  undetermined: { source: string; destination: string; port: number; why: string }[];
}

export interface Flows {
  rules: { policy: string; rule: string; requests: number; last_s: number }[];
}
