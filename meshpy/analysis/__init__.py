"""What policies mean for all requests, not for one. Pure, and decided by the engine of the sidecars.

`language` and `regex` turn what matches mean into trees, `automaton` these into automata, `partition` the
texts of a dimension into the cells that its matchers tell apart, each with a witness; `seam` and `domains`
know what rewrites and parsers do to a text. `predicates` collects every test that a snapshot makes (`asked`),
`space` puts the dimensions together, `probe` explores only what the engine reads of them, `flows` says who
can call what.

`diff`, `verify` (of `invariants`), `reach` and `lint` stand on these: what has no automaton is told as such,
nothing is sampled, nothing dropped. `coverage`, `recording`, `replay`, `templates` and `suggest`
speak of single requests instead: those of a table of tests, or of an access log.
"""
