"""Where services come from: a Swarm, or a file. Both publish whole `View`s and keep the last on failure."""
