"""The built page is what its sources say, is whole, and asks nobody but its own server."""

import hashlib
import re
from pathlib import Path

from control_plane.dashboard import load_assets
from control_plane.dashboard.assets import FOLDER

WEB = FOLDER.parent / "web"


def test_the_build_is_of_these_sources():
    """Run `npm ci && npm run build` in control_plane/dashboard/web after a change."""
    files = [*(file for file in (WEB / "src").rglob("*") if file.is_file())]
    files += [WEB / name for name in ("index.html", "package-lock.json", "vite.config.js")]
    digest = hashlib.sha256()
    for name in sorted(str(file.relative_to(WEB)) for file in files):
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    assert (FOLDER / "source.sha256").read_text().strip() == digest.hexdigest()


def test_the_page_names_its_own_files_and_nothing_outside():
    assets = load_assets()
    page = assets[""].body.decode()
    assert set(re.findall(r'(?:src|href)="\./([^"]+)"', page)) == {"app.js", "app.css"} <= set(assets)
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    for asset in assets.values():
        found = re.findall(rb"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", asset.body)
        assert {each for each in found if b"www.w3.org" not in each and b"preactjs.com" not in each} == set()


def test_the_lock_names_no_registry():
    lock = (Path(WEB) / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "https://registry" not in lock
