"""The page: static files that hold no data and so need no token; what they show they ask the API for."""

from __future__ import annotations

from aiohttp import web

from control_plane.dashboard import load_assets

__all__ = ["PATH", "DashboardRoutes"]

PATH = "/dashboard/"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DashboardRoutes:
    """Handlers of the page; not in the OpenAPI document, as they are no operations."""

    def __init__(self) -> None:
        self._assets = load_assets()

    def routes(self) -> tuple[web.RouteDef, ...]:
        return (
            web.get("/", self.lead),
            web.get("/dashboard", self.lead),
            web.get(PATH + "{name:[a-z.]*}", self.file),
        )

    async def lead(self, request: web.Request) -> web.Response:
        del request
        return web.Response(status=302, headers={"Location": PATH})

    async def file(self, request: web.Request) -> web.Response:
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            return web.Response(status=404, text="there is no such file of the dashboard\n")
        headers = {
            "ETag": f'"{asset.etag}"',
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
        }
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers
        )
