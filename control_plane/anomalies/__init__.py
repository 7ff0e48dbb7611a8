"""What is unusual: a baseline learned from what sidecars report, and events with their evidence.

    stats, path classes ──► Windows of ten seconds ──► Baseline (edges, paths, ratios) ──► Events ──► webhook

Nothing of it judges a request. Everything is bounded; what does not fit is not watched, and counted.
"""
