"""What the panels of Istio's dashboards ask of Prometheus."""

from pathlib import Path

QUERIES = Path(__file__).with_name("istio_dashboards.promql")


def istio_queries() -> dict[str, str]:
    """Dashboard and panel -> query, of services api and db of the stack shop and their caller web."""
    found = {}
    for line in QUERIES.read_text().splitlines():
        if line and not line.startswith("#"):
            dashboard, panel, query = line.split(" | ", 2)
            found[f"{dashboard}: {panel}"] = query
    return found
