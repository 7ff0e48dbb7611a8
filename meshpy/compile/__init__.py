"""inventory + policies -> one snapshot per workload. Pure.

`hosts` says which name is which services, `selection` which services a selector means; `clusters`, `routes`
and `listeners` make the outbound half of a snapshot, `network` and `authorization` the verdicts, `snapshot`
puts it together, `changed` compiles again what a change can concern. `check` finds what compiles and yet
cannot be meant: unknown hosts, selectors that match nothing, L7 rules on opaque ports.
"""

from meshpy.compile.authentication import keys_uris
from meshpy.compile.changed import Compilation, Inputs, compile_changed
from meshpy.compile.check import Findings, check
from meshpy.compile.snapshot import compile_mesh, compile_workload

__all__ = [
    "Compilation",
    "Findings",
    "Inputs",
    "check",
    "compile_changed",
    "compile_mesh",
    "compile_workload",
    "keys_uris",
]
