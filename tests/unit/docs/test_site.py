"""The docs as a site: every page has its place, every link a target, every flag of the sidecar a line."""

import re
from pathlib import Path

import pytest

from control_plane.api.problems import STATUS
from meshpy.cli.proxy import STATES
from proxy.cluster_stats import families_of
from proxy.series import families
from proxy.telemetry import Telemetry

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md"))
TEXTS = [*(DOCS / page for page in PAGES), *ROOT.glob("*.md")]
GENERATED = ("reference/",)


def test_every_page_is_in_the_navigation():
    """And the navigation names no page that is neither written nor made from the code."""
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = set(re.findall(r"[\w/-]+\.md", nav))
    assert {str(page) for page in PAGES} == {name for name in named if not name.startswith(GENERATED)}


def slugs(path):
    """The anchors of a page, as GitHub and mkdocs make them."""
    titles = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    """Relative links: the file is there, and the heading in it."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        if "reference/" in name:
            continue  # made by `make docs`, which checks them itself
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in slugs(found), f"{path.name}: {target}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_of_a_merge_is_left(path):
    assert not re.findall(r"^(?:<{7}|={7}$|>{7})", path.read_text(), re.MULTILINE)


def test_every_test_that_a_page_names_exists():
    """As a file of tests, or as one of their functions: what the docs claim is tried."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {path.stem for path in files}
    known |= {name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())}
    named = {(path.name, name) for path in TEXTS for name in re.findall(r"`(test_\w+)`", path.read_text())}
    assert named
    assert [each for each in sorted(named) if each[1] not in known] == []


def test_what_meshpy_is_said_to_have_leads_to_the_page_that_says_how():
    """Every ● and ◐ of meshpy's own column; `test_links_lead_somewhere` follows the links."""
    table = (DOCS / "compared.md").read_text().partition("## Row by row")[2]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 40
    assert {len(row) for row in rows} == {10}
    assert [
        row[0] for row in rows if row[9][0] != "○" and not re.fullmatch(r"\[[●◐][^]]*\]\(.+\)", row[9])
    ] == []


def test_every_response_flag_is_explained():
    """What a sidecar can write as a flag stands in the table of troubleshooting.md."""
    source = "\n".join(path.read_text() for path in (ROOT / "proxy").rglob("*.py"))
    written = set(
        re.findall(r'(?:Reply\(\s*\d+,\s*|flags\s*=\s*|_break\(|_fail\(\d+, )"([A-Z]{2,5})"', source)
    )
    told = set(re.findall(r"^\| `([A-Z]{2,5})`", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE))
    assert len(written) > 5
    assert written <= told


def test_every_metric_is_named():
    """A metric that a sidecar exposes stands in metrics.md."""
    exposed = {family.name for family in (*families(Telemetry()), *families_of({}, 0.0))}
    page = (DOCS / "metrics.md").read_text()
    assert len(exposed) > 20
    assert not {name for name in exposed if name not in page}


def test_every_status_state_and_missing_evidence_is_explained():
    """What the operator API answers with, what `status` shows, and why a sidecar gets no certificate."""
    rows = set(re.findall(r"^\| `?([\w-]+)`? \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE))
    assert {str(status) for status in STATUS.values()} <= rows
    assert set(STATES) <= rows
    source = "\n".join(path.read_text() for path in (ROOT / "control_plane").rglob("*.py"))
    evidence = set(re.findall(r'AttestationRefused\(\s*"([\w-]+)"', source))
    assert len(evidence) > 4
    assert evidence <= rows
