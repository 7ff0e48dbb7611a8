"""A real Chromium, driven by ChromeDriver over the W3C WebDriver protocol; no library needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.ports import free_port

DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium")
QUIET = ("disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element (W3C WebDriver §11)."""


class Browser:
    """One window."""

    def __init__(self, base: str, session: str) -> None:
        self._base = f"{base}/session/{session}"

    def open(self, url: str) -> None:
        self._post("url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript; its `return` comes back."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def run_later(self, script: str) -> Any:
        """Run JavaScript that calls its last argument when it is done."""
        return self._post("execute/async", {"script": script, "args": []})

    def wait(self, what: str, script: str, within_s: float = 15.0) -> Any:
        """Wait until JavaScript returns something true."""
        deadline = time.monotonic() + within_s
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"{what}: not within {within_s} s; {self.text()[:2000]}"
            time.sleep(0.05)
        return found

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def click(self, css: str, text: str = "") -> None:
        """Click the first element of a selector whose text holds `text`."""
        found = self.wait(
            f"{css} {text!r}",
            f"return [...document.querySelectorAll({css!r})]"
            f".find((e) => e.innerText.includes({text!r})) || null",
        )
        self._post(f"element/{found[_ELEMENT]}/click", {})

    def type(self, css: str, text: str) -> None:
        found = self.wait(css, f"return document.querySelector({css!r})")
        self._post(f"element/{found[_ELEMENT]}/value", {"text": text})

    def complaints(self) -> list[str]:
        """What the console said since the last call, warnings and errors."""
        said = self._post("se/log", {"type": "browser"})
        return [each["message"] for each in said if each["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(_ask("GET", f"{self._base}/screenshot")))

    def _post(self, path: str, body: Any) -> Any:
        return _ask("POST", f"{self._base}/{path}", body)


@contextmanager
def browser(*, is_dark: bool = False) -> Iterator[Browser]:
    """A headless window of 1280 by 860 with a profile of its own."""
    assert DRIVER is not None
    port = free_port()
    with tempfile.TemporaryDirectory() as profile:
        driver = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        base = f"http://127.0.0.1:{port}"
        try:
            _until_ready(base)
            flags = ["headless", "no-sandbox", "window-size=1280,860", f"user-data-dir={profile}", *QUIET]
            if is_dark:
                flags.append("blink-settings=preferredColorScheme=0")
            options = {"args": [f"--{flag}" for flag in flags], "binary": CHROMIUM}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = _ask("POST", f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})
            yield Browser(base, made["sessionId"])
            _ask("DELETE", f"{base}/session/{made['sessionId']}")
        finally:
            driver.terminate()
            driver.wait(10)


def _until_ready(base: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            if _ask("GET", f"{base}/status")["ready"]:
                return
        except OSError:
            assert time.monotonic() < deadline, "chromedriver does not start"
        time.sleep(0.05)


def _ask(method: str, url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.read().decode()[:500]}") from None
