"""`make pictures`: what README and docs show of the demo, taken from a real one.

`make demo` runs in a terminal of its own; what it draws becomes docs/images/demo.svg, a recording. A real
Chromium opens the link that it prints and takes docs/images/graph.png.
"""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.helpers.browser import browser

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
COLUMNS, ROWS = 112, 24
LAST_S, FRAMES, ENDING_S = 20, 10, 30
REDRAWN = re.compile(r"(?:\r?\x1b\[2K(?:\x1b\[1A\x1b\[2K)+)+")
"""How rich takes its last table back before it draws the next."""
NO_STYLE = re.compile(r"\x1b\[\?25[lh]|\r")
TOKEN = re.compile(r"(token=|MESHPY_TOKEN=|token: )\S+", re.IGNORECASE)
LINK = re.compile(r"http://\S+#\S+")


class Terminal:
    """`make demo`, at the other end of a terminal."""

    def __init__(self) -> None:
        self.text, decoder = "", codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decode = decoder.decode
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        env = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        self._process = subprocess.Popen(["make", "demo"], cwd=ROOT, env=env, start_new_session=True, **pipes)
        os.close(theirs)
        self._ours = ours

    def read(self, for_s: float, until: re.Pattern[str] | None = None) -> None:
        """Take what is drawn, for so long or until it holds a text."""
        end = time.monotonic() + for_s
        while (left := end - time.monotonic()) > 0 and not (until and until.search(self.text)):
            if select.select([self._ours], [], [], left)[0]:
                self.text += self._decode(os.read(self._ours, 65536))

    def end(self) -> None:
        """Ctrl-C, as a user ends it; what is still drawn must be read, or the demo waits for that."""
        os.killpg(self._process.pid, signal.SIGINT)
        deadline = time.monotonic() + ENDING_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # EIO: nobody draws any more
                self.read(0.2)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def screens(text: str) -> list[Text]:
    """What stood there after each redraw: what was said before the table, and the table."""
    said, *tables = REDRAWN.split(text)
    head = said.rpartition("control plane:")[0]
    head = TOKEN.sub(r"\1…", f"$ make demo\n{head}")
    shown = [NO_STYLE.sub("", f"{head}{table}") for table in tables]
    tallest = max(each.count("\n") for each in shown)
    return [Text.from_ansi(each + "\n" * (tallest - each.count("\n"))) for each in shown]


def recording(frames: list[Text]) -> str:
    """One SVG that shows the frames by turns, a second each; without a script and without a foreign font."""
    length = len(frames)
    pictures = []
    for number, frame in enumerate(frames):
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
        console.print(frame, soft_wrap=False, no_wrap=True, crop=True)
        svg = console.export_svg(title="make demo", theme=MONOKAI, unique_id=f"f{number}")
        pictures.append(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))
    opening = re.match(r"<svg[^>]*>", pictures[0])[0]
    shares = f"0% {{visibility: visible}} {100 / length:.2f}%, 100% {{visibility: hidden}}"
    style = f"<style>@keyframes show {{{shares}}} .frame {{visibility: hidden; "
    style += f"animation: show {length}s step-end infinite}}"
    style += "".join(f" .at{number} {{animation-delay: {number}s}}" for number in range(length)) + "</style>"
    inner = [re.sub(r"^<svg[^>]*>|</svg>\s*$", "", svg) for svg in pictures]
    groups = (f'<g class="frame at{number}">{svg}</g>' for number, svg in enumerate(inner))
    still = f"<g>{inner[-1]}</g>"  # what stands there where nothing is animated
    return "\n".join([opening, style, still, *groups, "</svg>\n"])


def graph(link: str) -> None:
    """The dashboard's service graph, as the browser of a user shows it."""
    with browser() as window:
        window.open(link)
        window.wait("the graph is linked", "return document.querySelector('a[href*=graph]')")
        window.click("a", "Graph")
        window.wait("services are there", "return document.querySelectorAll('svg text').length > 5")
        time.sleep(3)  # figures of some seconds
        window.screenshot(IMAGES / "graph.png")


def main() -> None:
    """Take both."""
    subprocess.run(["make", "setup"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=600)
    terminal = Terminal()
    try:
        terminal.read(120, LINK)
        link = LINK.search(terminal.text)
        assert link is not None, terminal.text
        terminal.read(LAST_S)
        taken = screens(terminal.text)
        graph(link[0])
    finally:
        terminal.end()
    frames = taken[-2 * FRAMES :: 2]
    (IMAGES / "demo.svg").write_text(recording(frames))


if __name__ == "__main__":
    main()
