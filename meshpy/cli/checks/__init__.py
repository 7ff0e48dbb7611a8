"""What `meshpy check` looks at.

A `Check` is a fact about the Swarm or the mesh, its section, its anchor in docs/check.md, and a pure
function from what was gathered (`Site`) to a `Verdict`. A site gathers each thing once, at first need;
what cannot be gathered makes the checks that need it `unknown`, never `success`. `run_checks` runs them in
order and prints nothing.

| file | checks |
|---|---|
| `engine` | docker, engines, managers, nodes |
| `carriers` | what the nodes' kernels and networks carry, by real packets (`probe`, sent to every node) |
| `installed` | mesh network, secrets, context, control plane, versions, clocks |
| `identity` | roots, intermediate, leaves |
| `data_plane` | sidecars in sync, join secrets, apps on their pod networks alone |
| `bypass` | what a task on an app's network reaches, by real packets |
"""
