"""The control plane: who runs (discovery), what is allowed (store), what each sidecar must do (registry).

    discovery ──View──► registry ──printed snapshots──► distribution ──deltas──► sidecars
                           ▲                                 │ACK, NACK, stats
    operator API ──► store ┘            telemetry ◄──────────┘
    sidecar ──CSR──► attest ──► signing ──► audit log

* `discovery` publishes a `View`: the inventory, and the tasks that attestation compares callers with. A read
  that failed never removes anything.
* `registry` holds inventory and policies, compiles them off the loop, and keeps the last set that compiled.
* `distribution` has at most one unanswered version in flight per stream; the newest wins.
* `store` is append-only with compare-and-swap; a revision is acknowledged after it is on disk.
* `api` turns every error into one answer by one table (`api.errors`).

Two listeners: sidecars (15012, TLS, certificate enrolment and streams) and operators (15014, bearer tokens).
"""
