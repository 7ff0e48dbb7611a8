"""A policy that closes `/private` holds however the path is spelt: nginx behind our inbound sidecar."""

from __future__ import annotations

import asyncio
import itertools
import shutil

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Operation,
)
from meshpy.model.match import Prefix
from tests.helpers.peers import App, api_snapshot, start_nginx, start_sidecar
from tests.helpers.ports import free_port
from tests.helpers.sidecars import LOOPBACK

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (nginx-light)")

SECRET = b"TOP-SECRET"
SLASHES = (
    "/",
    "//",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    "%252f",
    "%c0%af",
    "%e0%80%af",
    "/./",
    "/%2e/",
    ";/",
    ";a=b/",
)
DOTS = (
    "..",
    "%2e%2e",
    ".%2e",
    "%2e.",
    "%2E%2E",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "..;",
    "..%00",
    "%u002e%u002e",
)
NAMES = (
    "private", "%70rivate", "privat%65", "%70%72%69%76%61%74%65", "%2570rivate", "PRIVATE", "Private",
    "private;x", "private%20", "private.", "private%00", "./private", "%2e/private", "x/../private",
    "%c1%b0rivate", "private%3b", "private#", "private%23", "private?", "private%3f",
)  # fmt: skip


def spellings() -> list[str]:
    """Encodings, double encodings, overlong UTF-8, backslashes, dot segments, parameters, case, mixed."""
    made = [f"/{name}{slash}secret.txt" for name, slash in itertools.product(NAMES, SLASHES)]
    made += [
        f"/{first}{slash}{dots}{slash}private{slash}secret.txt"
        for first, slash, dots in itertools.product(("public", "x"), SLASHES, DOTS)
    ]
    made += [f"{slash}{name}/secret.txt" for slash, name in itertools.product(SLASHES, NAMES[:4])]
    made += [f"http://api{slash}private/secret.txt" for slash in SLASHES]
    return list(dict.fromkeys(made))


async def ask(port: int, target: str) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n".encode("latin-1"))
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.fixture(scope="module")
def doors(processes, pki, tmp_path_factory):
    """Ports of three sidecars before one nginx: no policy, DENY of the prefix, ALLOW of another prefix."""
    nginx = start_nginx(processes, tmp_path_factory.mktemp("nginx"))

    def door(action: Action | None, prefix: str = "") -> int:
        port = free_port()
        policies = ()
        if action is not None:
            rule = AuthorizationRule("rules[0]", operations=(Operation(paths=(Prefix(prefix),)),))
            policies = (AuthorizationPolicy("AuthorizationPolicy shop/private", action, (rule,)),)
        authorization = Authorization(policies=policies, baseline_external=frozenset({port}))
        start_sidecar(processes, pki, api_snapshot(App(port, nginx), authorization=authorization), port)
        return port

    return {"none": door(None), "deny": door(Action.DENY, "/private"), "allow": door(Action.ALLOW, "/public")}


async def test_the_secret_is_there_without_a_policy(doors):
    assert SECRET in await ask(doors["none"], "/private/secret.txt")
    found = [target for target in spellings() if SECRET in await ask(doors["none"], target)]
    assert len(found) >= 20, "too few spellings mean the secret: the list proves nothing"


@pytest.mark.parametrize("policy", ["deny", "allow"])
async def test_no_spelling_leaks_the_secret(doors, policy):
    assert len(spellings()) >= 300
    assert b"403" in (await ask(doors[policy], "/private/secret.txt")).split(b"\r\n")[0]
    assert b"200" in (await ask(doors[policy], "/public/a.txt")).split(b"\r\n")[0]
    leaks = [target for target in spellings() if SECRET in await ask(doors[policy], target)]
    assert leaks == []
