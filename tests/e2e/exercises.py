"""What users of the applications do: each returns how many operations succeeded, and none may fail."""

import json
import ssl
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.swarm import Engine, Task

WARM_S = 120
SETTLED_S = 60
LOADER = "src/pipdepgraph/entrypoints/rmq_pub/pypi_package_names.py"


def _wait() -> None:
    """Not yet, in the words of `Site.warm`."""
    raise OSError("not yet")


class Site:
    """A deployed application, by the ports it publishes, from beside the nodes."""

    def __init__(self, engine: Engine, stack: str, folder: Path) -> None:
        self.engine, self.stack, self.folder = engine, stack, folder
        self._tls = None

    def running(self, service: str) -> list[Task]:
        return self.engine.running(f"{self.stack}_{service}")

    def base(self, service: str, port: int = 0, scheme: str = "http") -> str:
        """A published port on a node where it is open; 0: the one that the engine chose."""
        form = "{{range .Spec.EndpointSpec.Ports}}{{.TargetPort}} {{end}}"
        published = self.engine.run(
            "docker", "service", "inspect", "--format", form, f"{self.stack}_{service}-sidecar"
        ).out.strip()  # empty where there is none, or where the app still has its ports
        holders = self.running(f"{service}-sidecar" if published else service)
        if not holders:
            raise OSError(f"no task of {service} runs")
        holder = holders[0]
        if not port:
            shown = self.engine.run(*self.engine.docker_at(holder), "port", holder.container).out
            port = int(shown.split()[-1].rpartition(":")[2])
        return f"{scheme}://192.0.2.{holder.node.removeprefix('node-')}:{port}"

    def call(self, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """One request; anything but a 2xx with JSON (or a word) is an error that says what came."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        kind = "application/json" if isinstance(body, dict) else "application/x-www-form-urlencoded"
        request = urllib.request.Request(url, data, {"Content-Type": kind, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise OSError(f"{url}: {error.code} {error.read()[:300]!r}") from None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def trust(self, certificate: Path) -> None:
        """Verify by this certificate from now on; the name is not the address."""
        self._tls = ssl.create_default_context(cafile=certificate)
        self._tls.check_hostname = False

    def warm(self, ask: Callable[[], Any]) -> Any:
        """Until the application is up: its parts start in any order and find each other."""
        last: list[Exception] = []

        def answered() -> Any:
            try:
                return [ask()]
            except (OSError, KeyError) as error:
                last[:] = [error]
                return None

        try:
            return self.engine.wait(f"{self.stack} is up", answered, WARM_S)[0]
        except Exception as error:
            told = "\n".join(self.engine.describe(name) for name in self.services())
            raise AssertionError(f"{error}: {last}\n{told}") from error

    def services(self) -> list[str]:
        found = {task.service for task in self.engine.tasks(stack=self.stack)}
        return sorted(found)

    def settled(self, what: str, is_true: Callable[[], Any]) -> Any:
        """What the work of others comes to in the end."""
        return self.engine.wait(f"{self.stack}: {what}", is_true, SETTLED_S)


def vote(site: Site) -> int:
    """120 votes by as many voters; all are counted in the end, by way of two databases."""
    door = site.base("vote", 5002)  # in host mode engines open one port for a target, the last
    result = site.base("result", 5001)
    site.warm(lambda: site.call(door, b"vote=a"))
    site.warm(lambda: site.call(result))
    site.settled("the first is counted", lambda: sum(site.call(result).values()) > 0)
    before = site.call(result)
    for number in range(120):
        site.call(door, b"vote=" + (b"a" if number % 3 else b"b"))
    wanted = sum(before.values()) + 120
    site.settled("every vote is counted", lambda: sum(site.call(result).values()) >= wanted)
    assert sum(site.call(result).values()) == wanted
    assert b"vote_worker" in json.dumps(site.call(site.base("visualizer", 8080))).encode()
    return 120


def coins(site: Site) -> int:
    """300 hashes are mined, by way of random bytes, hasher and Redis; no worker meets an error."""
    url = f"{site.base('webui', 8000)}/json"
    site.warm(lambda: site.call(url)["hashes"] > 20 or _wait())
    before = site.call(url)
    site.settled("300 hashes", lambda: site.call(url)["hashes"] >= before["hashes"] + 300)
    after = site.call(url)
    assert after["errors"] == before["errors"]
    return after["hashes"] - before["hashes"]


def graph(site: Site) -> int:
    """150 names go through three queues into three tables, and each change to a subscriber."""
    batch = uuid.uuid4().hex[:8]

    def load(*words: str) -> str:
        loaders = site.running("names_processor")
        if not loaders:
            raise OSError("no task to load names from")
        loader = loaders[0]
        done = site.engine.exec(loader, "python3", LOADER, *words, timeout_s=60)
        if done.code != 0:
            raise OSError(done.err[-500:])
        return done.out

    def is_seen(what: str) -> bool:
        return f"seen {what}" in site.engine.logs(f"{site.stack}_cdc_requirements", 2000)

    def is_whole() -> bool:
        load("1", f"{batch}x")
        time.sleep(0.5)
        return is_seen(f"{batch}x 1") or _wait()

    site.warm(lambda: load("prepare"))
    site.warm(is_whole)
    load("150", f"{batch}-")

    def is_through() -> bool:
        return set(json.loads(load("count", f"{batch}-")).values()) == {150}

    site.settled("every name is in every table", is_through)
    site.settled("every change is seen", lambda: is_seen(f"{batch} 150"))
    return 150 * 4


def quiz(site: Site) -> int:
    """150 scores through nginx into PostgreSQL, and their sum."""
    url = f"{site.base('frontend', 8082)}/api/scores"
    before = site.warm(lambda: site.call(url))[0]
    for number in range(150):
        site.call(url, {"name": "x", "points": number})
    after = site.call(url)[0]
    assert after["count"] == before["count"] + 150
    assert after["points"] == (before["points"] or 0) + sum(range(150))
    return 152


def secure(site: Site) -> int:
    """120 items through nginx and an API of two replicas into PostgreSQL, with a password from a secret."""
    url = f"{site.base('reverse', 8083)}/items"
    before = site.warm(lambda: site.call(url))["count"]
    for number in range(120):
        site.call(url, {"name": str(number)})
    assert site.call(url)["count"] == before + 120
    return 122


def fleet(site: Site) -> int:
    """120 hosts by HTTPS through nginx, by HTTPS again to the app, into MySQL, counted in Redis."""
    site.trust(site.folder / "fleet/fleet.crt")
    url = site.base("nginx", 8443, "https")
    before = site.warm(lambda: site.call(url))
    for number in range(120):
        site.call(url, {"name": str(number)})
    after = site.call(url)
    assert after["count"] == before["count"] + 120
    assert after["seen"] == before["seen"] + 121
    return 122


def news(site: Site) -> int:
    """60 articles through Traefik; each is stored in PostgreSQL and read by a Celery worker over Redis."""
    url, headers = f"{site.base('traefik', 8085)}/articles", {"Host": "localhost"}
    site.warm(lambda: site.call(url, {"text": "one two"}, headers)["words"] == 2 or _wait())
    before = site.call(url, headers=headers)["count"]
    for number in range(60):
        assert site.call(url, {"text": "word " * number}, headers)["words"] == number
    assert site.call(url, headers=headers)["count"] == before + 60
    return 122


def laravel(site: Site) -> int:
    """200 pages of PHP by FastCGI."""

    def front() -> str:
        url = site.base("nginx")  # the engine chooses another port for each task
        site.call(f"{url}/?numbers=1")
        return url

    url = site.warm(front)
    for number in range(200):
        assert site.call(f"{url}/?numbers=1,{number}") == {
            "app": "laravel",
            "method": "GET",
            "sum": number + 1,
        }
    return 200


def watch(site: Site) -> int:
    """Prometheus scrapes its targets, those on every node included, and its alert reaches Alertmanager."""
    api, alerts = (
        f"{site.base('prometheus', 9090)}/api/v1",
        f"{site.base('alertmanager', 9093)}/api/v2/alerts",
    )

    def up() -> dict[str, int]:
        found = site.call(f"{api}/query?query=count(up==1)by(job)")["data"]["result"]
        return {each["metric"]["job"]: int(each["value"][1]) for each in found}

    site.warm(lambda: site.call(f"{api}/query?query=up"))
    nodes = len(site.running("node-exporter"))
    site.settled(
        "all is scraped", lambda: up() == {"prometheus": 1, "node-exporter": nodes, "alertmanager": 1}
    )
    site.settled("the alert arrives", lambda: site.call(alerts))
    time.sleep(5)
    for _ in range(100):
        assert up()["node-exporter"] == nodes
    failed = site.call(f"{api}/query?query=sum(count_over_time(up[5s])-sum_over_time(up[5s]))")
    assert float(failed["data"]["result"][0]["value"][1]) == 0, failed
    return 100
