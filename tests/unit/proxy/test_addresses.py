"""Own addresses."""

from __future__ import annotations

import pytest

from proxy.net.addresses import AddressError, Addresses, local_ipv4

FIB = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.1.0/24 2 0 2
        |-- 10.0.1.0
           /24 link UNICAST
        |-- 10.0.1.7
           /32 host LOCAL
        |-- 10.0.1.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
Local:
        |-- 10.0.1.7
           /32 host LOCAL
        |-- 172.18.0.3
           /32 host LOCAL
"""


def test_own_addresses_are_read_from_the_kernel_s_table_once_each():
    assert local_ipv4(FIB) == ("10.0.1.7", "172.18.0.3")


def test_a_literal_is_itself_a_network_its_address_and_anything_else_an_error():
    addresses = Addresses({"shop_api-pod": ("10.0.5.3",)})
    assert addresses.resolve("127.0.0.9") == "127.0.0.9"
    assert addresses.resolve("shop_api-pod") == "10.0.5.3"
    with pytest.raises(AddressError, match="--bind mesh=IP"):
        addresses.resolve("mesh")


def test_what_was_written_by_hand_wins():
    addresses = Addresses({"mesh": ("10.0.0.1",)}).with_more({"mesh": ("10.0.0.2",), "pod": ("10.0.0.3",)})
    assert addresses.resolve("mesh") == "10.0.0.1"
    assert addresses.resolve("pod") == "10.0.0.3"
