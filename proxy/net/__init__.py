"""Sockets, TLS and timers: the only place in the sidecar that opens a connection."""
