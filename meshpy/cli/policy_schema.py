"""`meshpy policy schema`: what an editor needs to complete and refuse the fields that meshpy does."""

from __future__ import annotations

import click

from meshpy.cli.output import print_json
from meshpy.errors import MeshpyError
from meshpy.inject.short_schema import schema_of_x_mesh
from meshpy.policy.reader import suggestion
from meshpy.policy.schema import DRAFT, kinds, schema_of, schema_of_all

__all__ = ["schema"]

X_MESH = "x-mesh"


@click.command()
@click.argument("kind", required=False)
def schema(kind: str | None) -> None:
    """Print the JSON Schema of KIND, of `x-mesh` in stack files, or of every document.

    \b
    Examples:
      meshpy policy schema > policies.schema.json
      meshpy policy schema NetworkPolicy.networking.k8s.io
      meshpy policy schema x-mesh > stack.schema.json
    """
    if kind is None:
        print_json(schema_of_all())
        return
    if kind == X_MESH:
        print_json(schema_of_x_mesh())
        return
    names = {name.lower(): name for name in kinds()}
    found = names.get(kind.lower())
    if found is None:
        raise MeshpyError(f"there is no kind {kind!r}; {suggestion(kind, (*kinds(), X_MESH))}")
    print_json({"$schema": DRAFT, **schema_of(found)})
