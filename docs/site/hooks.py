"""mkdocs hook: the reference pages, made from the code at each build, so that they cannot say otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import reference_api  # noqa: E402 - found by the path above
import reference_cli  # noqa: E402
import reference_kinds  # noqa: E402


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is generated to what is written."""
    pages = reference_cli.pages() | reference_kinds.pages() | reference_api.pages()
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files
