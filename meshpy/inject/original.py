"""The original of an injected file, kept in it under `x-meshpy`, to be given back byte for byte."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from meshpy.errors import DocumentError
from meshpy.inject.options import InjectOptions
from meshpy.inject.stackfile import StackFile

__all__ = ["ROOT_KEY", "Original", "pack", "unpack"]

ROOT_KEY = "x-meshpy"
FORMAT = 1
LINE = 100
MAX_BYTES = 16 * 1024 * 1024
"""An original larger than this is no stack file but a bomb."""


@dataclass(frozen=True, slots=True)
class Original:
    """What `inject` was given."""

    text: str
    stack: str
    options: InjectOptions


def pack(text: str, stack: str, options: InjectOptions) -> dict[str, Any]:
    """The value of `x-meshpy`: base64 has no `$`, so docker's interpolation leaves it alone."""
    data = text.encode("utf-8", "surrogatepass")
    packed = base64.b64encode(zlib.compress(data, 9)).decode()
    chosen = {key: value for key, value in asdict(options).items() if value is not None and value != {}}
    return {
        "format": FORMAT,
        "stack": stack,
        "options": base64.b64encode(json.dumps(chosen, sort_keys=True).encode()).decode(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "original": [packed[at : at + LINE] for at in range(0, len(packed), LINE)],
    }


def unpack(stack: StackFile) -> Original | None:
    """What was packed; None when the file was not injected.

    Raises:
        DocumentError: `x-meshpy` was edited.
    """
    value = stack.value.get(ROOT_KEY)
    if value is None:
        return None
    try:
        return _unpack(value)
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        what = "this part was written by `meshpy inject` and is damaged, so the original cannot be restored"
        instead = "take the original from version control and inject that"
        raise DocumentError([stack.problem((ROOT_KEY,), what, instead)]) from error


def _unpack(value: Mapping[str, Any]) -> Original:
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']}")
    packed = base64.b64decode("".join(value["original"]), validate=True)
    inflater = zlib.decompressobj()
    data = inflater.decompress(packed, MAX_BYTES)
    if inflater.unconsumed_tail or hashlib.sha256(data).hexdigest() != value["sha256"]:
        raise ValueError("the checksum differs")
    chosen = json.loads(base64.b64decode(value["options"], validate=True))
    return Original(data.decode("utf-8", "surrogatepass"), str(value["stack"]), InjectOptions(**chosen))
