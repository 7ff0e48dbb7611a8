"""How the sidecar was started: by arguments (static) or by its environment (with a control plane)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from meshpy.errors import MeshpyError
from meshpy.model.snapshot import MESH_PORT
from meshpy.otlp.settings import Destination, Signal, read_destination, read_resource
from proxy.log_shape import LogOptions, LogShape
from proxy.outside_policy import ForwardSettings, read_forward

if TYPE_CHECKING:
    import argparse

__all__ = [
    "ControlOptions",
    "Options",
    "OptionsError",
    "OtlpOptions",
    "ProcessLimits",
    "StaticOptions",
    "parser",
    "read_options",
]


METRICS_PORT = 15020


class OptionsError(MeshpyError):
    """The sidecar cannot be started like this."""


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """A snapshot file and an identity directory (`tls.crt`, `tls.key`, `ca.crt`)."""

    snapshot: Path
    identity: Path


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """Where the control plane is and what proves who we are (CONTRACT: sidecar environment).

    Args:
        cache: a directory for what a start without the control plane needs; None keeps nothing.
    """

    address: str
    port: int
    trust_domain: str
    service: str
    task: str
    node: str
    token_file: Path
    bundle_file: Path
    cache: Path | None = None
    metrics_port: int = 0
    metrics_host: str = ""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Bounds of one process; 0 is none of its own.

    Args:
        memory_bytes: where there is none, the container's limit holds.
        connections: accepted at a time, by all listeners; never more than descriptors allow.
        request_bytes: of one request's content.
    """

    memory_bytes: int = 0
    connections: int = 0
    connections_per_listener: int = 0
    request_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OtlpOptions:
    """Where spans and metrics go beside the control plane; `resource`: further attributes of them all."""

    traces: Destination | None = None
    metrics: Destination | None = None
    resource: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """Args:
    source: where snapshots and identity come from.
    binds: name of a network → own addresses on it.
    mesh_bind: where other sidecars are accepted.
    node: the host name of the node that it runs on, for locality.
    sampling_pct: of the traces that begin here so many percent are sampled.
    slow_s: a request that takes longer is traced although it is not sampled.
    forward: of the app's forward proxy to outside hosts; None: there is none.
    quiet_s: a stop is over when nobody has come for so long, at the latest after `grace_s`.
    """

    source: StaticOptions | ControlOptions
    binds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mesh_bind: tuple[str, int] | None = None
    admin: tuple[str, int] = ("127.0.0.1", 15000)
    access_log: str = "-"
    workers: int = 1
    grace_s: float = 10.0
    log_level: str = "INFO"
    node: str = ""
    sampling_pct: float = 1.0
    slow_s: float = 1.0
    limits: ProcessLimits = ProcessLimits()
    otlp: OtlpOptions = OtlpOptions()
    log: LogOptions = field(default_factory=LogOptions)
    flow_log: str = "off"
    quiet_s: float = 0.0
    metrics: tuple[str, int] | None = None
    recent: int = 4096
    forward: ForwardSettings | None = None


@dataclass(slots=True)
class Arguments:
    """The command line; as it is where nothing is said."""

    snapshot: Path | None = None
    identity: Path | None = None
    mesh_bind: str = ""
    bind: list[str] = field(default_factory=list)
    admin: str = ""
    access_log: str = ""
    workers: int = 0


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Read the command line, then the environment.

    Raises:
        OptionsError: something is missing or unreadable.
        SystemExit: `--help`, or an argument that argparse refuses.
    """
    # Sidecars of a Swarm have no arguments, and do without argparse, 1.7 MiB.
    args = parser().parse_args(arguments, Arguments()) if arguments else Arguments()
    if (args.snapshot is None) != (args.identity is None):
        raise OptionsError("--snapshot FILE.json and --identity DIR belong together")
    source: StaticOptions | ControlOptions
    if args.snapshot is not None and args.identity is not None:
        source = StaticOptions(args.snapshot, args.identity)
    else:
        source = _control(environment)
    binds: dict[str, tuple[str, ...]] = {}
    for text in args.bind:
        network, mark, address = text.partition("=")
        if not (network and mark and address):
            raise OptionsError(f"--bind {text!r}: write NETWORK=IP")
        binds[network] = (*binds.get(network, ()), address)
    admin = args.admin or environment.get("MESHPY_ADMIN", "127.0.0.1:15000")
    return Options(
        source,
        binds,
        _address(args.mesh_bind, "--mesh-bind", MESH_PORT) if args.mesh_bind else None,
        _address(admin, "--admin", 15000),
        args.access_log or environment.get("MESHPY_ACCESS_LOG", "-"),
        args.workers or _number(environment, "MESHPY_WORKERS", 1),
        float(_number(environment, "MESHPY_GRACE_S", 10)),
        environment.get("MESHPY_LOG", "info").upper(),
        environment.get("MESHPY_NODE", ""),
        _decimal(environment, "MESHPY_TRACE_SAMPLING", 1.0, 100.0),
        _decimal(environment, "MESHPY_TRACE_SLOW_MS", 1000.0, 1e9) / 1000.0,
        ProcessLimits(
            _bytes(environment, "MESHPY_MEMORY_LIMIT"),
            _number(environment, "MESHPY_MAX_CONNECTIONS", 0),
            _number(environment, "MESHPY_MAX_CONNECTIONS_PER_LISTENER", 0),
            _bytes(environment, "MESHPY_MAX_REQUEST_BYTES"),
        ),
        OtlpOptions(
            read_destination(Signal.TRACES, environment),
            read_destination(Signal.METRICS, environment),
            tuple(read_resource(environment).items()),
        ),
        _log_options(environment),
        environment.get("MESHPY_FLOW_LOG", "off"),
        float(_number(environment, "MESHPY_QUIET_S", 0 if isinstance(source, StaticOptions) else QUIET_S)),
        _metrics(environment),
        _number(environment, "MESHPY_RECENT", 4096),
        forward=read_forward(
            environment.get("MESHPY_OUTBOUND", ""),
            environment.get("MESHPY_OUTBOUND_BIND", ""),
            environment.get("MESHPY_OUTBOUND_HOSTS", ""),
        ),
    )


def _metrics(environment: Mapping[str, str]) -> tuple[str, int] | None:
    """`mesh:15020`, or an address; a port of its own, so that nothing else of the sidecar is shown."""
    text = environment.get("MESHPY_METRICS", "off")
    return None if text in ("off", "") else _address(text, "MESHPY_METRICS", METRICS_PORT)


def _log_options(environment: Mapping[str, str]) -> LogOptions:
    shape = environment.get("MESHPY_ACCESS_LOG_FORMAT", LogShape.ENVOY)
    if shape not in tuple(LogShape):
        raise OptionsError(f"MESHPY_ACCESS_LOG_FORMAT={shape!r}: write {', '.join(LogShape)}")
    mode = environment.get("MESHPY_ACCESS_LOG_MODE", "all")
    word, _, share = mode.partition(":")
    if word == "sampled" and share:
        kept = _decimal({"MESHPY_ACCESS_LOG_MODE": share}, "MESHPY_ACCESS_LOG_MODE", 100.0, 100.0)
    elif mode in ("all", "errors"):
        kept = 100.0 if mode == "all" else 0.0
    else:
        raise OptionsError(f"MESHPY_ACCESS_LOG_MODE={mode!r}: write all, errors, or sampled:PERCENT")
    redact = environment.get("MESHPY_ACCESS_LOG_REDACT", "on")
    if redact not in ("on", "off"):
        raise OptionsError(f"MESHPY_ACCESS_LOG_REDACT={redact!r}: write on or off")
    return LogOptions(LogShape(shape), kept, redact == "on")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    import argparse  # noqa: PLC0415 - see `read_options`

    made = argparse.ArgumentParser(
        prog="meshpy-proxy",
        description="The sidecar. Without --snapshot the environment says where the control plane is.",
    )
    made.add_argument(
        "--snapshot", type=Path, metavar="FILE.json", help="static: the snapshot; SIGHUP reloads"
    )
    made.add_argument("--identity", type=Path, metavar="DIR", help="static: tls.crt, tls.key, ca.crt")
    made.add_argument(
        "--mesh-bind", metavar="IP[:PORT]", help="where other sidecars are accepted (0.0.0.0:15443)"
    )
    made.add_argument("--bind", action="append", metavar="NETWORK=IP", help="own address on a network")
    made.add_argument("--admin", metavar="IP:PORT", help="admin server (127.0.0.1:15000)")
    made.add_argument("--access-log", metavar="FILE|-|off", help="JSON lines (-)")
    made.add_argument("--workers", type=int, metavar="N", help="static: processes (1)")
    return made


def _address(text: str, what: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, default_port
    if not host or not port.isdecimal() or int(port) > 65535:
        raise OptionsError(f"{what} {text!r}: write IP:PORT")
    return host.strip("[]"), int(port)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal():
        raise OptionsError(f"{name}={text!r}: write a whole number")
    return int(text)


def _decimal(environment: Mapping[str, str], name: str, default: float, highest: float) -> float:
    text = environment.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= highest:
        raise OptionsError(f"{name}={text!r}: write a number from 0 to {highest:g}")
    return value


QUIET_S = 3
"""On a Swarm: clients keep a sidecar's address for as long as their resolver or their pool does."""
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _bytes(environment: Mapping[str, str], name: str) -> int:
    """A size as Docker writes it: `64m`, `1g`, or bytes."""
    text = environment.get(name, "0").lower().removesuffix("b")
    number = text.rstrip("kmg")
    if not number.isdecimal() or text[len(number) :] not in _UNITS:
        raise OptionsError(f"{name}={environment[name]!r}: write bytes, or a size such as 64m")
    return int(number) * _UNITS[text[len(number) :]]


def _control(environment: Mapping[str, str]) -> ControlOptions:
    needed = ("MESHPY_CONTROL_PLANE", "MESHPY_NAMESPACE", "MESHPY_SERVICE", "MESHPY_JOIN_TOKEN_FILE")
    absent = [name for name in (*needed, "MESHPY_TRUST_BUNDLE_FILE") if not environment.get(name)]
    if absent:
        raise OptionsError(
            f"{', '.join(absent)} not set: start with --snapshot FILE.json --identity DIR, "
            "or with the environment that `meshpy inject` writes"
        )
    address, port = _address(environment["MESHPY_CONTROL_PLANE"], "MESHPY_CONTROL_PLANE", 15012)
    metrics = _metrics(environment)
    return ControlOptions(
        address,
        port,
        environment.get("MESHPY_TRUST_DOMAIN", "cluster.local"),
        f"{environment['MESHPY_NAMESPACE']}/{environment['MESHPY_SERVICE']}",
        environment.get("MESHPY_TASK_ID", ""),
        environment.get("MESHPY_NODE", ""),
        Path(environment["MESHPY_JOIN_TOKEN_FILE"]),
        Path(environment["MESHPY_TRUST_BUNDLE_FILE"]),
        Path(environment["MESHPY_CACHE"]) if environment.get("MESHPY_CACHE") else None,
        metrics_port=metrics[1] if metrics is not None else 0,
        metrics_host=metrics[0] if metrics is not None else "",
    )
