"""The page over a real socket: open to strangers, cached by its tag, and nothing beside it."""

import pytest

from tests.helpers.control_plane import API, VIEWER, plane


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def test_the_page_is_served_with_a_strict_policy_and_holds_no_data(mesh):
    async with mesh.http.get(f"{mesh.operator}/") as answer:
        assert str(answer.url).endswith("/dashboard/")
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert str(API) not in await answer.text()
        tag = answer.headers["ETag"]
    async with mesh.http.get(f"{mesh.operator}/dashboard/", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304
    for name in ("app.js", "app.css"):
        async with mesh.http.get(f"{mesh.operator}/dashboard/{name}") as answer:
            assert answer.status == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["source.sha256x", "..", "%2e%2e/%2e%2e/etc/passwd", "assets.py", "x/y"])
async def test_nothing_beside_the_page_is_served(mesh, path):
    from yarl import URL

    async with mesh.http.get(URL(f"{mesh.operator}/dashboard/{path}", encoded=True)) as answer:
        assert answer.status in (401, 404)


async def test_a_foreign_host_is_refused_on_the_page_too(mesh):
    async with mesh.http.get(f"{mesh.operator}/dashboard/", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 421


async def test_a_service_is_shown_with_the_snapshot_of_its_sidecars(mesh):
    status, answer = await mesh.call("GET", "/v1/services/shop/api", token=VIEWER)
    assert (status, answer["service"], answer["exempt"]) == (200, "shop/api", "")
    shut = dict.fromkeys(("published", "proxy_protocol", "secured"), False)
    assert answer["ports"] == [{"number": 8080, "protocol": "http", **shut}]
    assert answer["snapshot"]["workload"]["name"] == "shop/api"
    assert (await mesh.call("GET", "/v1/services/shop/nobody"))[0] == 404
    assert (await mesh.call("GET", "/v1/services/shop/..%2f"))[0] in (400, 404)
