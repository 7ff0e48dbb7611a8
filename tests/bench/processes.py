"""Processes of a benchmark: started in a folder of their own, ended by their pid, weighed by the kernel.

CPU is what the kernel charged every thread (/proc/PID/task/*/schedstat, nanoseconds). Its split into the
process's own time and the kernel's on its behalf comes from /proc/PID/stat, which counts ticks of 10 ms.
"""

import contextlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cpu:
    """Seconds of CPU so far: all of it, and the ticks spent in user and kernel mode."""

    total_s: float
    user_s: float
    kernel_s: float

    def __sub__(self, other):
        return Cpu(self.total_s - other.total_s, self.user_s - other.user_s, self.kernel_s - other.kernel_s)


def cpu_of(pids):
    """The CPU of all threads of some processes."""
    total = user = kernel = 0.0
    for pid in pids:
        tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
        total += sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) / 100
        kernel += int(fields[12]) / 100
    return Cpu(total, user, kernel)


def rss_mib(pid):
    """Of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _rss_mib(pid) + sum(map(_rss_mib, children))


def _rss_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Processes:
    """What one run started."""

    def __init__(self, folder):
        self.folder = folder
        self._started = []

    def write(self, name, text):
        """A file of the run's folder."""
        file = self.folder / name
        file.write_text(text)
        return file

    def start(self, argv, *ports, quiet=True):
        """Start a process and wait until it listens on every port; its pid."""
        log = (self.folder / f"{len(self._started)}.log").open("wb")
        out = subprocess.DEVNULL if quiet else log
        process = subprocess.Popen(list(map(str, argv)), stdout=out, stderr=log, cwd=ROOT)
        self._started.append(process)
        for port in ports:
            self._wait_for(port, process, Path(log.name))
        return process.pid

    @staticmethod
    def _wait_for(port, process, log):
        for _ in range(200):
            if process.poll() is not None:
                raise SystemExit(f"{process.args[0]} ended: {process.returncode}\n{log.read_text()[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.05)
        raise SystemExit(f"nobody listens on {port}: {process.args}")

    def stop(self):
        """End every process that was started here."""
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
