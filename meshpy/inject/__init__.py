"""Stack text -> stack text: what `meshpy inject` writes. Pure; no file, network or clock.

`goyaml` reads as docker does, `stackfile` and `schema` name the place of everything wrong, `words`,
`mentions`, `published`, `evidence`, `exempt` and `topology` find out what the services are, `plan` decides,
`sidecar` and `apply` write, `edit` changes the text without touching another byte, `original` makes it
reversible.
"""

from meshpy.inject.injecting import (
    Injected,
    inject,
    inventory_of_stack,
    only_sidecars,
    policies_of_stack,
    uninject,
    without_sidecars,
)
from meshpy.inject.options import InjectOptions, Settings
from meshpy.inject.plan import PortsUnknownError
from meshpy.inject.report import Report

__all__ = [
    "InjectOptions",
    "Injected",
    "PortsUnknownError",
    "Report",
    "Settings",
    "inject",
    "inventory_of_stack",
    "only_sidecars",
    "policies_of_stack",
    "uninject",
    "without_sidecars",
]
