"""Every page of the dashboard in a real Chromium: opened, used, read by axe, with nothing on the console."""

import asyncio
import os
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.browser import CHROMIUM, DRIVER, browser
from tests.helpers.control_plane import ADMIN, API, DENY_ALL, WEB, plane
from tests.helpers.dashboard_link import bridged, in_a_thread
from tests.helpers.looked import answers, recent

AXE = Path(__file__).parents[3] / "control_plane/dashboard/web/node_modules/axe-core/axe.min.js"
pytestmark = [
    pytest.mark.skipif(DRIVER is None or CHROMIUM is None, reason="no chromium, chromium-driver (Debian)"),
    pytest.mark.skipif(not AXE.exists(), reason="no axe-core: run `npm ci` in control_plane/dashboard/web"),
]
TRACE = "0af7651916cd43dd8448eb211c80319c"
EXPLAINED = "source=shop%2Fweb&destination=shop%2Fapi&method=GET&path=%2F"
PAGES = {
    "overview": "Who calls whom",
    "graph": "shop",
    "graph?at=shop%2Fapi": "Calls of shop/api",
    "services": "meshed",
    "services/shop/api": "Policies in force",
    "requests": "/items/19",
    "requests?verdict=DENIED": "denied",
    "events": "which is new",
    "traces?service=web.shop": "0af7651916cd",
    f"traces/{TRACE}?span=0000000000000001": "http.request.method",
    "policies": "Revisions",
    "policies/1": "added",
    f"policies?tool=explain&{EXPLAINED}": "A policy that allows it",
    "policies?tool=suggest": "no request was seen yet",
    "sync": "SYNCED",
    "ca": "Trust domain",
}
"""Address → a text that shows that the page has its data."""


def _span(number, kind, parent=""):
    return {
        "trace": TRACE,
        "span": f"{number:016x}",
        "parent": parent,
        "kind": kind,
        "name": "GET",
        "start_us": 1_700_000_000_000_000 + number * 500,
        "duration_us": 2_500 - number * 400,
        "attributes": {"http.request.method": "GET"},
    }


def _figures(requests, denied):
    return {
        "direction": "outbound",
        "source": "shop/web",
        "destination": "shop/api",
        "protocol": "http",
        "mtls": True,
        "requests": requests,
        "success": requests - denied,
        "denied": {"NetworkPolicy shop/deny-all": denied},
        "responses": {"200": requests - denied, "403": denied},
        "latency_ms": {"bounds": [1, 5, 25], "counts": [requests, 0, 0]},
    }


async def _serve(folder, ready, stop):
    """A control plane with a policy, two sidecars, traffic and a trace, behind the bridge."""
    async with plane(folder, learning_s=0.001) as mesh, AsyncExitStack() as stack:
        await mesh.put(DENY_ALL)
        for name, task in ((WEB, "w1"), (API, "a1")):
            sidecar = await stack.enter_async_context(
                mesh.stream(await mesh.enrol(name, task=task), task=task)
            )
            await sidecar.take()
            if name == WEB:
                await sidecar.socket.send_json({"type": "stats", "records": [_figures(120, 3)]})
                await sidecar.socket.send_json({"type": "spans", "spans": [_span(1, "CLIENT")]})
            else:
                await sidecar.socket.send_json({"type": "spans", "spans": [_span(2, "SERVER", f"{1:016x}")]})
                classes = [["GET", "/items/{*}/stock", "shop/web", 200]]
                await sidecar.socket.send_json({"type": "paths", "classes": classes})
            remembered = recent("outbound" if name == WEB else "inbound")
            work = asyncio.ensure_future(answers(sidecar, remembered))
            stack.callback(work.cancel)
        ready.append(stack.enter_context(bridged(mesh.operator)))
        while not stop.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)


@pytest.fixture
def dashboard(tmp_path):
    with in_a_thread(partial(_serve, tmp_path)) as link:
        yield link


@contextmanager
def _signed_in(dashboard, *, is_dark=False):
    base, token = dashboard
    with browser(is_dark=is_dark) as window:
        window.open(f"{base}#token={token}")
        window.wait("signed in", "return document.querySelector('.tile') && true")
        assert token not in str(window.run("return location.href"))
        yield window, base


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_shows_its_data_is_accessible_and_asks_nobody_else(dashboard, theme):
    shots = os.environ.get("MESHPY_SCREENSHOTS")
    with _signed_in(dashboard, is_dark=theme == "dark") as (window, base):
        for address, text in PAGES.items():
            window.open(f"{base}#/{address}")
            window.wait(address, f"return document.body.innerText.includes({text!r})")
            heading = window.run("return document.querySelector('h1').innerText")
            assert window.run("return document.title") == f"{heading} · meshpy"
            window.run(AXE.read_text())
            found = window.run_later(
                "const done = arguments[arguments.length - 1];"
                "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then((r) => done("
                "r.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).slice(0, 3).join(' ')}`)))"
            )
            assert found == [], (address, theme)
            if shots:
                name = "".join(c if c.isalnum() else "-" for c in address)
                window.screenshot(Path(shots) / f"{theme}-{name}.png")
            asked = window.run("return performance.getEntriesByType('resource').map((e) => e.name)")
            assert [
                url for url in asked if not url.startswith((base.removesuffix("dashboard/"), "data:"))
            ] == []
        assert window.complaints() == []


def test_a_policy_is_checked_applied_compared_and_rolled_back_by_clicks(dashboard):
    with _signed_in(dashboard) as (window, base):
        window.open(f"{base}#/policies")
        window.click("button", "Apply a policy")
        window.type("textarea", DENY_ALL.replace("Deny}", "Dny}"))
        window.click("button", "Check")
        window.wait(
            "the place of the mistake", "return document.querySelector('.trouble')?.innerText.includes(':7:')"
        )
        window.run("document.querySelector('textarea').select()")
        window.type("textarea", DENY_ALL.replace("Deny}", "Allow}"))
        window.type(".editor input", "open it again")
        window.click("button", "Check")
        window.wait("the verdict", "return document.body.innerText.includes('would decide otherwise')")
        window.wait("what changes", "return document.body.innerText.includes('newly allowed')")
        assert "shop/web" in window.run("return document.querySelector('.editor table').innerText")
        window.click("button", "Apply")
        window.wait("revision 2", "return document.body.innerText.includes('In force: revision 2')")
        window.click("td a", "2")
        window.wait("the difference", "return document.querySelector('.minus')?.innerText.includes('Deny')")
        assert "open it again" in window.text()
        window.open(f"{base}#/policies/1")
        window.click("button", "Bring this revision back")
        window.wait("revision 3", "return document.body.innerText.includes('revision 3 brings it back')")
        assert [line for line in window.complaints() if "422" not in line] == []


def test_a_wizard_shows_its_yaml_which_is_diffed_applied_and_taken_back_by_clicks(dashboard):
    with _signed_in(dashboard) as (window, base):
        window.open(f"{base}#/policies?tool=explain")
        window.type("input[name=source]", "shop/web")
        window.type("input[name=destination]", "shop/api")
        window.click("button", "Explain")
        window.wait("the verdict", "return document.querySelector('.verdict')?.innerText.includes('denied')")
        assert "NetworkPolicy shop/deny-all" in window.text()
        window.open(f"{base}#/policies")
        window.click("summary", "deny-all")
        window.click("button", "Edit")
        window.wait("the editor", "return document.querySelector('textarea')?.value.includes('Deny')")
        window.run("document.querySelector('textarea').select()")
        window.type("textarea", DENY_ALL.replace("Deny}", "Allow}"))
        window.click("button", "Check")
        window.wait("the difference", "return document.body.innerText.includes('newly allowed')")
        window.click("button", "Apply")
        window.wait("revision 2", "return document.body.innerText.includes('In force: revision 2')")
        window.open(f"{base}#/policies/1")
        window.click("button", "Bring this revision back")
        window.wait("revision 3", "return document.body.innerText.includes('revision 3 brings it back')")
        assert window.complaints() == []


def test_a_wrong_token_leads_back_to_the_door(dashboard):
    base, _ = dashboard
    with browser() as window:
        window.open(f"{base}#token=wrong")
        window.wait("the door", "return document.querySelector('.signin') && true")
        assert window.run("return document.title") == "Sign in · meshpy"


def test_the_bridge_takes_its_own_token_and_its_own_host_only(dashboard):
    import http.client
    from urllib.parse import urlsplit

    base, token = dashboard
    address = urlsplit(base)
    for host, authorization, status in (
        (address.netloc, f"Bearer {token}", 200),
        (address.netloc, f"Bearer {ADMIN}", 401),
        (address.netloc, "", 401),
        ("evil.example", f"Bearer {token}", 421),
    ):
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
        connection.request("GET", "/v1/status", headers={"Host": host, "Authorization": authorization})
        assert connection.getresponse().status == status
        connection.close()
