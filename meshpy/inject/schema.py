"""The keys that `docker stack deploy` knows, and since which file version it does.

Source: docker/cli cli/compose/schema (3.0 to 3.13). Keys that docker ignores with a message are keys too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from meshpy.errors import Problem
from meshpy.inject.stackfile import StackFile

__all__ = ["NEWEST", "check", "minor_version"]

NEWEST = 13

ROOT = {"version": 0, "services": 0, "networks": 0, "volumes": 0, "secrets": 1, "configs": 3}
SERVICE = {
    **dict.fromkeys(
        [
            "deploy",
            "build",
            "cap_add",
            "cap_drop",
            "cgroup_parent",
            "command",
            "container_name",
            "depends_on",
            "devices",
            "dns",
            "dns_search",
            "domainname",
            "entrypoint",
            "env_file",
            "environment",
            "expose",
            "external_links",
            "extra_hosts",
            "healthcheck",
            "hostname",
            "image",
            "ipc",
            "labels",
            "links",
            "logging",
            "mac_address",
            "network_mode",
            "networks",
            "pid",
            "ports",
            "privileged",
            "read_only",
            "restart",
            "security_opt",
            "shm_size",
            "sysctls",
            "stdin_open",
            "stop_grace_period",
            "stop_signal",
            "tmpfs",
            "tty",
            "ulimits",
            "user",
            "userns_mode",
            "volumes",
            "working_dir",
        ],
        0,
    ),
    "secrets": 1,
    "configs": 3,
    "credential_spec": 3,
    "isolation": 5,
    "init": 7,
    "cgroupns_mode": 9,
    "oom_score_adj": 13,
}
UPDATE = {
    **dict.fromkeys(["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio"], 0),
    "order": 4,
}
DEPLOY: Mapping[str, int] = {
    **dict.fromkeys(
        ["mode", "replicas", "labels", "update_config", "resources", "restart_policy", "placement"], 0
    ),
    "endpoint_mode": 2,
    "rollback_config": 7,
}
PLACEMENT = {"constraints": 0, "preferences": 3, "max_replicas_per_node": 8}
RESTART = dict.fromkeys(["condition", "delay", "max_attempts", "window"], 0)
HEALTHCHECK = {
    **dict.fromkeys(["disable", "interval", "retries", "test", "timeout"], 0),
    "start_period": 4,
    "start_interval": 12,
}
NETWORK = {
    **dict.fromkeys(["driver", "driver_opts", "ipam", "external", "internal", "labels"], 0),
    "attachable": 2,
    "name": 5,
}
VOLUME = {**dict.fromkeys(["driver", "driver_opts", "external", "labels"], 0), "name": 4}
SECRET = {
    **dict.fromkeys(["file", "external", "labels"], 1),
    "name": 5,
    "driver": 8,
    "driver_opts": 8,
    "template_driver": 8,
}
CONFIG = {**dict.fromkeys(["file", "external", "labels"], 3), "name": 5, "template_driver": 8}
ATTACHMENT = {"aliases": 0, "ipv4_address": 0, "ipv6_address": 0, "driver_opts": 12}
PORT = {"target": 0, "published": 0, "protocol": 0, "mode": 0}

NO_IMAGE = "write `image: NAME:TAG`; when the file is one of several (`-c a.yml -c b.yml`), merge them first"

REFUSED = {
    "extends": "docker refuses it: write the service out",
    "volume_driver": "docker refuses it: set the driver in the root `volumes`",
    "volumes_from": "docker refuses it: name the volumes",
    **dict.fromkeys(
        ("cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit"),
        "docker refuses it in a stack: use deploy.resources",
    ),
    "profiles": "docker stack has no profiles: remove it",
    "scale": "write deploy.replicas",
    "pull_policy": "docker stack does not know it: remove it",
    "platform": "use deploy.placement.constraints with node.platform",
}


def minor_version(version: Any) -> int:
    """The N of `3.N`; no version, or `3`, means the newest schema. -1: no version 3 file."""
    if version is None or version in ("3", "3."):
        return NEWEST
    match = re.fullmatch(r"3\.(\d+)", str(version))
    return int(match[1]) if match and int(match[1]) <= NEWEST else -1


def check(stack: StackFile) -> list[Problem]:
    """Every key that docker would refuse, and every value of a wrong type where the injector reads."""
    minor = minor_version(stack.value.get("version"))
    if minor < 0:
        what = f"docker stack does not read version {stack.value['version']!r} files"
        return [stack.problem(("version",), what, 'write version: "3.8"')]
    return list(_Checker(stack, minor).run())


class _Checker:
    __slots__ = ("minor", "stack")

    def __init__(self, stack: StackFile, minor: int) -> None:
        self.stack = stack
        self.minor = minor

    def run(self) -> Iterator[Problem]:
        yield from self._keys((), ROOT, extensions=4)
        for section, table in (
            ("networks", NETWORK),
            ("volumes", VOLUME),
            ("secrets", SECRET),
            ("configs", CONFIG),
        ):
            yield from self._section(section, table)
        services = self.stack.value.get("services")
        if not isinstance(services, dict) or not services:
            place = ("services",) if "services" in self.stack.value else ()
            yield self.stack.problem(
                place, "the file has no services", "write `services:` with at least one service"
            )
            return
        for name in services:
            yield from self._service(name)

    def _section(self, section: str, table: Mapping[str, int]) -> Iterator[Problem]:
        definitions = self.stack.value.get(section)
        if section not in self.stack.value:
            return
        if not isinstance(definitions, dict):
            yield self.stack.problem(
                (section,), "must be a mapping", "define something below it, or remove it"
            )
            return
        for name in definitions:
            yield from self._keys((section, name), table, extensions=7, may_be_null=True)

    def _service(self, name: str) -> Iterator[Problem]:
        path = ("services", name)
        service = self.stack.value["services"][name]
        if not isinstance(service, dict):
            yield self.stack.problem(path, "a service must be a mapping", "write `image:` below it")
            return
        yield from self._keys(path, SERVICE, extensions=7)
        if "image" not in service and "build" not in service:
            yield self.stack.problem(path, "the service has no image", NO_IMAGE)
        for key, table in (
            ("deploy", DEPLOY),
            ("healthcheck", HEALTHCHECK),
        ):
            if key in service:
                yield from self._keys((*path, key), table, may_be_null=key == "deploy")
        deploy = service.get("deploy")
        for key, table in (
            ("update_config", UPDATE),
            ("rollback_config", UPDATE),
            ("placement", PLACEMENT),
            ("restart_policy", RESTART),
        ):
            if isinstance(deploy, dict) and key in deploy:
                yield from self._keys((*path, "deploy", key), table)
        yield from self._shapes(path, service)

    def _shapes(self, path: tuple[str, ...], service: Mapping[str, Any]) -> Iterator[Problem]:
        for key, kinds, words in (
            ("ports", (list,), "a list"),
            ("expose", (list,), "a list"),
            ("depends_on", (list,), "a list: docker stack does not read the mapping form"),
            ("networks", (list, dict), "a list of networks, or a mapping"),
            ("environment", (list, dict), "a list of NAME=VALUE, or a mapping"),
            ("labels", (list, dict), "a list of NAME=VALUE, or a mapping"),
            ("volumes", (list,), "a list"),
            ("command", (list, str), "a text or a list"),
            ("entrypoint", (list, str), "a text or a list"),
            ("image", (str,), "a text"),
            ("hostname", (str,), "a text"),
        ):
            # A null command, image and so on is what docker takes for "not set" after its own merge.
            if (
                key in service
                and not isinstance(service[key], kinds)
                and not _is_null_allowed(key, service[key])
            ):
                yield self.stack.problem((*path, key), f"must be {words}")
        deploy = service.get("deploy") or {}
        if isinstance(deploy, dict) and not isinstance(deploy.get("labels", {}), list | dict):
            yield self.stack.problem(
                (*path, "deploy", "labels"), "must be a list of NAME=VALUE, or a mapping"
            )
        networks = service.get("networks")
        for name, attachment in networks.items() if isinstance(networks, dict) else ():
            if attachment is not None:
                yield from self._keys((*path, "networks", name), ATTACHMENT)
        for index, port in enumerate(service["ports"] if isinstance(service.get("ports"), list) else ()):
            if isinstance(port, dict):
                yield from self._keys((*path, "ports", index), PORT)

    def _keys(
        self,
        path: tuple[str | int, ...],
        table: Mapping[str, int],
        extensions: int = 99,
        may_be_null: bool = False,
    ) -> Iterator[Problem]:
        value = self.stack.get(path)
        if value is None and may_be_null:
            return
        if not isinstance(value, dict):
            yield self.stack.problem(path, "must be a mapping")
            return
        for key in value:
            if key.startswith("x-") and self.minor >= extensions:
                continue
            since = extensions if key.startswith("x-") and extensions != 99 else table.get(key)
            if since is None:
                yield self.stack.problem(
                    (*path, key), f"docker does not know the key `{key}` here", _instead(key, table)
                )
            elif since > self.minor:
                what = f"`{key}` needs version 3.{since}, the file says 3.{self.minor}"
                yield self.stack.problem((*path, key), what, f'write version: "3.{max(since, 8)}"')


def _is_null_allowed(key: str, value: Any) -> bool:
    return value is None and key in ("command", "entrypoint")


def _instead(key: str, table: Mapping[str, int]) -> str:
    if key in REFUSED:
        return REFUSED[key]
    close = difflib.get_close_matches(key, table, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else "remove it, or begin its name with `x-`"
