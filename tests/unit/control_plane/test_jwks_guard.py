"""A URL in a policy leads outside, or where the operator allowed: never into the control plane's networks."""

from __future__ import annotations

import pytest

from control_plane.errors import StartRefused
from control_plane.jwks.errors import KeysError
from control_plane.jwks.guard import Guard, GuardedResolver

INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public_are_refused(address):
    assert not Guard().allows("idp.example.com", address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address):
    assert Guard().allows("idp.example.com", address)


def test_what_the_operator_named_is_allowed_and_nothing_near_it():
    guard = Guard.of(["Keycloak.internal", "10.1.0.0/16", "::1"])
    assert guard.allows("keycloak.internal.", "172.16.0.1")
    assert not guard.allows("evil.keycloak.internal", "172.16.0.1")
    assert guard.allows("idp.example.com", "10.1.9.9")
    assert not guard.allows("idp.example.com", "10.2.9.9")
    assert guard.is_trusted("KEYCLOAK.internal")
    assert guard.is_trusted("10.1.2.3")
    assert not guard.is_trusted("idp.example.com")
    for word in ("10.0.0.0/99", "https://idp", "a/b", ""):
        with pytest.raises(StartRefused, match="--jwks-allow"):
            Guard.of([word])


async def test_a_name_that_leads_inside_resolves_to_nothing():
    with pytest.raises(KeysError, match="not public"):
        await GuardedResolver(Guard()).resolve("localhost", 443)
    found = await GuardedResolver(Guard.of(["localhost"])).resolve("localhost", 443)
    assert {each["host"] for each in found} & {"127.0.0.1", "::1"}
