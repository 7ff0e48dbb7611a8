"""The environment by which an app finds its forward proxy."""

from __future__ import annotations

from typing import Any

from meshpy.inject.members import PROXY_HOST, Member
from meshpy.inject.words import pairs

__all__ = ["with_proxy"]

PROXY_PORT = 15001
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
EXCEPT = ("NO_PROXY", "no_proxy")


def with_proxy(member: Member) -> Any:
    """An app's `environment` with the proxy's variables in both spellings; what it sets itself stays.

    Names of the mesh are no business of a proxy: they are listed one by one, as programs differ in what else
    they understand.
    """
    before = member.service.get("environment")
    said = {name for name, _, _ in pairs(before)}
    outside = {host for host, _, _ in member.orders.egress}
    names = {name for pod in member.pods for name in pod.aliases} - outside - {PROXY_HOST}
    direct = ",".join(("localhost", "127.0.0.1", "::1", *sorted({*names, member.key})))
    new = dict.fromkeys(PROXIES, f"http://{PROXY_HOST}:{PROXY_PORT}") | dict.fromkeys(EXCEPT, direct)
    new = {name: value for name, value in new.items() if name not in said}
    if isinstance(before, list):
        return [*before, *(f"{name}={value}" for name, value in new.items())]
    return {**(before or {}), **new}
