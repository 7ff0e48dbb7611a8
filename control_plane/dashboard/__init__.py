"""The web page of the control plane: built by vite from `web/` into `built/`, which the wheel carries.

`built/` is kept in the repository so that a checkout without Node installs; `built/source.sha256` says which
sources it was built from, and a test compares. To change the page: `npm ci && npm run build` in `web/`.
"""

from control_plane.dashboard.assets import Asset, load_assets

__all__ = ["Asset", "load_assets"]
