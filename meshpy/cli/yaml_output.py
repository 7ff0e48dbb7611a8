"""Values as YAML that all read alike: what YAML 1.1 takes for a number or a truth is quoted."""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

__all__ = ["yaml_text"]

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@+-]*(?: [A-Za-z0-9_./@+-]+)*")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])


class _Representer(SafeRepresenter):
    """Strings are plain when they can be nothing else, in double quotes otherwise."""


def _text(representer: SafeRepresenter, text: str) -> ScalarNode:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    node: ScalarNode = representer.represent_scalar(
        "tag:yaml.org,2002:str", str(text), style=None if is_plain else '"'
    )
    return node


_Representer.add_representer(str, _text)
_Representer.add_multi_representer(str, _text)  # an enum of words is the word, as it is in JSON


def yaml_text(value: Any) -> str:
    """The JSON-like value as one YAML document, mappings in their own order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # untyped there
    yaml.allow_unicode = True
    yaml.width = 4096
    out = io.StringIO()
    yaml.dump(value, out)
    return out.getvalue().removesuffix("...\n").rstrip("\n")
