"""What policies mean for all requests, not for one. Pure, and decided by the engine of the sidecars.

`language` and `regex` turn what matches mean into trees, `automaton` these into automata, `partition` the
texts of a dimension into the cells that its matchers tell apart, each with a witness; `seam` and `domains`
know what rewrites and parsers do to a text. `predicates` collects every test that a snapshot makes, `space`
puts the dimensions together and explores only what the engine reads, `flows` says who can call what.

`diff` stands on these. What has no automaton is told as undetermined; nothing is sampled, nothing dropped.
"""
