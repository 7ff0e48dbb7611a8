"""`meshpy bug-report`: what somebody who helps needs to see, in one archive, without secrets.

Parts are gathered one by one; what cannot be had is said in `missing.txt` and spoils nothing else.
"""

from __future__ import annotations

import io
import json
import platform
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import click

from meshpy.cli.docker import Docker
from meshpy.cli.output import ask_format, print_json
from meshpy.cli.progress import waiting
from meshpy.cli.redact import redacted, scrubbed
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.names import ROOT_NAMESPACE

__all__ = ["bug_report"]

_API = {
    "status": "/v1/status",
    "inventory": "/v1/inventory",
    "revisions": "/v1/revisions",
    "rollout": "/v1/rollout",
    "ca": "/v1/ca",
    "revoked": "/v1/ca/denied",
}
_DOCKER = {
    "version": ("version", "--format", "{{json .}}"),
    "nodes": ("node", "ls"),
    "networks": ("network", "ls"),
    "services": ("service", "ls"),
    "mesh-network": ("network", "inspect", "mesh"),
}
_LIBRARIES = ("aiohttp", "uvloop", "cryptography", "google-re2", "click")


@click.command("bug-report")
@click.option(
    "-f",
    "--file",
    "archive",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to. [default: meshpy-bug-report-TIME.tar.gz]",
)
@click.option(
    "--tail", type=click.IntRange(0, 100_000), default=500, show_default=True, help="Lines of a log."
)
@click.option("--policies/--no-policies", default=False, help="With the texts of the policies in force.")
@ask_format
def bug_report(archive: Path | None, tail: int, policies: bool, output: str) -> None:
    """Gather versions, status, snapshots and logs of the mesh into one archive, without secrets.

    Keys, tokens, header values and query strings are replaced; environment variables are not read. Look into
    the archive before you send it: names of services, hosts and paths are in it.

    \b
    Examples:
      meshpy bug-report
      meshpy bug-report -f report.tar.gz --tail 2000 --policies
    """
    archive = archive or Path(time.strftime("meshpy-bug-report-%Y%m%d-%H%M%S.tar.gz"))
    missing: list[str] = []
    with waiting("gathering"), tarfile.open(archive, "w:gz") as tar:
        for name, gather in _parts(tail, with_policies=policies):
            try:
                _add(tar, name, scrubbed(gather()))
            except (MeshpyError, OSError) as error:
                missing.append(f"{name}: {error}")
        if missing:
            _add(tar, "missing.txt", scrubbed("\n".join(missing) + "\n"))
    archive.chmod(0o600)
    size = archive.stat().st_size
    if output == "json":
        print_json({"file": str(archive), "bytes": size, "missing": [scrubbed(line) for line in missing]})
        return
    for line in missing:
        click.echo(f"not there: {line}", err=True)
    click.echo(f"{archive}: {size // 1024 + 1} KiB; look into it before you send it")


def _parts(tail: int, *, with_policies: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name of each file, and how its text is had."""
    docker = Docker(timeout_s=30)
    operator = Operator(Context.load(), timeout_s=10)
    yield "versions.json", lambda: _json(_versions())
    for name, path in _API.items():
        yield f"mesh/{name}.json", partial(_asked, operator, path)
    yield "mesh/metrics.txt", partial(_metrics, operator)
    if with_policies:
        yield "mesh/policies.json", partial(_asked, operator, "/v1/policies")
    for service in _services(operator):
        yield f"services/{service}.json", partial(_asked, operator, f"/v1/services/{service}")
    for name, words in _DOCKER.items():
        yield f"docker/{name}.txt", partial(docker.run, *words)
    for name in _containers(docker):
        yield f"docker/ps/{name}.txt", partial(docker.run, "service", "ps", "--no-trunc", name)
        words = ("service", "logs", "--timestamps", "--tail", str(tail), name)
        yield f"docker/logs/{name}.txt", partial(docker.run, *words)


def _asked(operator: Operator, path: str) -> str:
    return _json(operator.call("GET", path))


def _metrics(operator: Operator) -> str:
    return operator.send("GET", "/metrics", {}, None).body.decode()


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _LIBRARIES}
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {"meshpy": version("swarm-meshpy"), "python": platform.python_version(), "system": system, **found}


def _services(operator: Operator) -> list[str]:
    try:
        return [each["name"] for each in operator.call("GET", "/v1/status")["services"]]
    except MeshpyError:
        return []


def _containers(docker: Docker) -> list[str]:
    """The control plane and every sidecar; logs of apps are not ours to take."""
    try:
        names = sorted(row["Name"] for row in docker.rows("service", "ls"))
    except MeshpyError:
        return []
    return [name for name in names if name.endswith("-sidecar") or name.startswith(f"{ROOT_NAMESPACE}_")]


def _json(value: object) -> str:
    return json.dumps(redacted(value), indent=2, ensure_ascii=False) + "\n"


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(f"meshpy-bug-report/{name}")
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    tar.addfile(entry, io.BytesIO(data))
