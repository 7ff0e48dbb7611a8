"""The static way: a snapshot file and an identity directory, read at start and again at SIGHUP."""

from __future__ import annotations

import asyncio
import json
import logging

from certs.errors import CertError
from certs.identity import Identity, load_bundle
from meshpy.errors import MeshpyError
from meshpy.model.snapshot import Snapshot
from meshpy.wire import decode_snapshot
from proxy.config import ConfigError
from proxy.options import StaticOptions
from proxy.sidecar import Sidecar

__all__ = ["load", "load_snapshot", "reload"]

_log = logging.getLogger("meshpy.proxy")


def load_snapshot(options: StaticOptions) -> Snapshot:
    """Read the snapshot file.

    Raises:
        ConfigError: it cannot be read; the text names file and key.
    """
    path = options.snapshot
    try:
        return decode_snapshot(json.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no JSON: {error}") from error
    except MeshpyError as error:
        raise ConfigError(f"{path}: {error}") from error


async def load(sidecar: Sidecar, options: StaticOptions) -> None:
    """Put identity and snapshot in force.

    Raises:
        ConfigError: either cannot be used.
    """
    snapshot = await asyncio.to_thread(load_snapshot, options)
    try:
        identity = Identity.load(options.identity)
        bundle = load_bundle(options.identity, snapshot.workload.trust_domain)
        await sidecar.set_identity(identity, bundle)
    except CertError as error:
        raise ConfigError(str(error)) from error
    own = f"spiffe://{snapshot.workload.trust_domain}{snapshot.workload.name.spiffe_path}"
    if str(identity.spiffe_id) != own:
        raise ConfigError(f"{options.identity / 'tls.crt'} is of {identity.spiffe_id}, the snapshot of {own}")
    await sidecar.apply(snapshot)


async def reload(sidecar: Sidecar, options: StaticOptions) -> None:
    """As `load`; what cannot be used is logged and changes nothing."""
    try:
        await load(sidecar, options)
    except ConfigError as error:
        _log.error("not reloaded, the last good snapshot stays: %s", error)
