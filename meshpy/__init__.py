"""The language of the mesh and the tool: `model` is the vocabulary, `policy` reads it, `compile` makes
snapshots, `engine` decides by them; `analysis`, `inject`, `demo` and `cli` stand on these (ARCHITECTURE.md).
"""
