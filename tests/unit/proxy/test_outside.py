"""The forward proxy: what it reads, what it lets through, and what counts as outside."""

import pytest

from meshpy.errors import MeshpyError
from proxy.net.outside import is_outside, networks_of_routes
from proxy.outside_head import Asked, HeadRefusedError, read_asked
from proxy.outside_policy import ForwardSettings, OutboundPolicy, read_forward

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0000C90A\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0
eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


def test_connect_names_a_host_and_a_port():
    asked = read_asked(b"CONNECT API.example.com.:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert asked == Asked("api.example.com", 443, True)


def test_an_absolute_url_becomes_what_the_origin_expects():
    """Host is the URL's (RFC 9112 3.2.2), fields for the proxy are gone, one exchange a connection."""
    head = (
        b"GET http://a.example.com:81?q=1 HTTP/1.1\r\nHost: evil\r\nProxy-Authorization: Basic x\r\n"
        b"X-Kept: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n"
    )
    asked = read_asked(head)
    assert (asked.host, asked.port) == ("a.example.com", 81)
    assert asked.forwarded == (
        b"GET /?q=1 HTTP/1.1\r\nHost: a.example.com:81\r\nConnection: close\r\n"
        b"X-Kept: 1\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    "head",
    [
        b"GET /path HTTP/1.1\r\n\r\n",
        b"GET https://a.example.com/ HTTP/1.1\r\n\r\n",
        b"GET http://user@a/ HTTP/1.1\r\n\r\n",
        b"CONNECT a.example.com HTTP/1.1\r\n\r\n",
        b"CONNECT a.example.com:0 HTTP/1.1\r\n\r\n",
        b"CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nX : 1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nX: 1\n\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n folded: 1\r\n\r\n",
        b"GET  http://a/ HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/2.0\r\n\r\n",
    ],
)
def test_what_is_ambiguous_is_refused(head: bytes):
    with pytest.raises(HeadRefusedError):
        read_asked(head)


def test_networks_of_this_task_are_those_without_a_gateway():
    local = networks_of_routes(ROUTES)
    assert [str(each) for each in local] == ["10.201.0.0/20", "172.18.0.0/16"]
    inside = ("10.201.3.4", "172.18.0.1", "127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0")
    assert [address for address in inside if is_outside(address, local)] == []
    assert is_outside("203.0.113.10", local)
    assert is_outside("10.1.2.3", local)


def test_registry_only_lets_patterns_through_and_allow_any_everything():
    only = ForwardSettings(OutboundPolicy.REGISTRY_ONLY, "pod", (("*.github.com", 443),))
    asked = [("api.github.com", 443), ("github.com", 443), ("evilgithub.com", 443), ("api.github.com", 80)]
    assert [only.lets(*each) for each in asked] == [True, False, False, False]
    assert ForwardSettings(OutboundPolicy.ALLOW_ANY, "pod").lets("anything", 1)


def test_the_environment_says_whether_there_is_one():
    assert read_forward("", "", "") is None
    assert read_forward("REGISTRY_ONLY", "pod", "*.a.example:443") == ForwardSettings(
        OutboundPolicy.REGISTRY_ONLY, "pod", (("*.a.example", 443),)
    )
    for wrong in (("ANY", "pod", ""), ("ALLOW_ANY", "", ""), ("ALLOW_ANY", "pod", "a.example:443")):
        with pytest.raises(MeshpyError):
            read_forward(*wrong)
