"""The embedded trace store: what sidecars sampled, kept in bounded memory, asked in Jaeger's query JSON.

It is for meshes without a tracing back end; nothing of it is written to disk.
"""
