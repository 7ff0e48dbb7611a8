"""Policy revisions: append-only, numbered from 1, written by compare-and-swap."""
