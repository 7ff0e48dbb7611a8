"""Stack files for tests of the injector, and short ways to look at what became of them."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from meshpy.errors import DocumentError, Problem
from meshpy.inject import Injected, InjectOptions, inject
from meshpy.inject.stackfile import StackFile

HEAD = 'version: "3.8"\nservices:\n'


def injected(text: str, **options: Any) -> Injected:
    """Inject as the stack `shop`."""
    return inject(text, stack="shop", file="s.yml", options=InjectOptions(**options))


def model(text: str) -> Any:
    """What docker reads in a text."""
    return StackFile.parse(text).value


def services(text: str, **options: Any) -> Any:
    """The services of the injected text."""
    return model(injected(text, **options).text)["services"]


def problems(text: str, **options: Any) -> tuple[Problem, ...]:
    """Why a text is refused."""
    try:
        injected(text, **options)
    except DocumentError as error:
        return error.problems
    raise AssertionError("it was not refused")


def on_this_kernel(text: str, without: tuple[str, ...] = ()) -> str:
    """A stack file as kernels without IP_VS can run it: no virtual addresses, ports of the nodes.

    Args:
        without: services that are left out.
    """
    yaml = YAML(typ="safe")
    document = yaml.load(text)
    for name in without:
        del document["services"][name]
    for service in document["services"].values():
        service.setdefault("deploy", {})["endpoint_mode"] = "dnsrr"
        if "ports" in service:
            service["ports"] = [_in_host_mode(port) for port in service["ports"]]
            service["deploy"].setdefault("update_config", {})["order"] = (
                "stop-first"  # the port is one task's
            )
    out = StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _in_host_mode(port: Any) -> dict[str, Any]:
    if isinstance(port, dict):
        return {**port, "mode": "host"}
    published, _, target = str(port).rpartition(":")
    return {"target": int(target), "mode": "host"} | ({"published": int(published)} if published else {})
