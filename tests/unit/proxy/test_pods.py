"""An outside host that a look-up finds on the app's own network is not dialled: it is ourselves."""

import asyncio
import ipaddress
import socket

import pytest

from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from proxy.access_log import NO_LOG
from proxy.listeners import Socket, pods_of
from proxy.net.addresses import Addresses
from proxy.net.pool import Upstream
from proxy.sidecar import Sidecar

POD, MESH = ipaddress.ip_network("10.0.7.0/24"), ipaddress.ip_network("10.201.0.0/20")


def test_the_apps_networks_are_those_that_a_listener_names():
    """An address by itself names no network, and the mesh is none of the app's."""
    doors = [Socket("10.0.7.3", 80, "app", "shop_api-pod"), Socket("10.201.0.9", 15443, "mesh")]
    assert pods_of(doors, [POD, MESH]) == (POD,)
    assert pods_of([Socket("10.0.7.3", 80, "app", "10.0.7.3")], [POD, MESH]) == ()


@pytest.mark.parametrize(
    ("name", "found", "kept"),
    [
        ("outbound|80||example.com", ["10.0.7.3", "10.0.7.4"], []),  # ourselves, and another replica
        ("outbound|80||example.com", ["10.0.7.3", "203.0.113.10"], ["203.0.113.10"]),
        ("outbound|80||db.example", ["10.201.0.9", "::1"], ["::1", "10.201.0.9"]),
        ("inbound|8080||", ["10.0.7.9"], ["10.0.7.9"]),  # the app itself lives there
    ],
)
async def test_what_is_looked_up_there_is_left_out(name, found, kept, monkeypatch, caplog):
    sidecar = Sidecar(access_log=NO_LOG, addresses=Addresses({}))
    clusters = sidecar.clusters
    clusters.pods = (POD,)
    cluster = Cluster(name, Protocol.HTTP, Transport.PLAIN, dns="example.com", dns_port=80)
    upstream = Upstream(cluster, clusters.own)

    async def answer(*_args, **_kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
    await clusters._resolve(upstream)
    assert sorted(host.endpoint.address for host in upstream.hosts) == sorted(kept)
    assert ("knows no address outside" in caplog.text) == (not kept)
    await sidecar.close()


@pytest.mark.parametrize("own", [["10.0.7.3"], [], OSError("no such name")])
async def test_what_the_control_plane_found_takes_its_place(own, monkeypatch):
    """Not where that is on a network of our own, or a cloud's metadata service: a name can be anybody's."""
    monkeypatch.setattr("proxy.clusters.local_networks", lambda: (POD, MESH))
    sidecar = Sidecar(access_log=NO_LOG, addresses=Addresses({}))
    clusters = sidecar.clusters
    clusters.pods = (POD,)
    told = tuple(
        Endpoint(address, 80) for address in ("203.0.113.10", "10.201.0.9", "169.254.169.254", "127.0.0.1")
    )
    cluster = Cluster(
        "outbound|80||example.com", Protocol.HTTP, Transport.PLAIN, told, dns="example.com", dns_port=80
    )

    async def answer(*_args, **_kwargs):
        if isinstance(own, OSError):
            raise own
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in own]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
    prepared = await clusters.prepare({cluster.name: cluster})
    [upstream] = prepared.values()
    assert upstream.hosts == []
    await clusters._resolve(upstream)
    assert [host.endpoint.address for host in upstream.hosts] == ["203.0.113.10"]
    await sidecar.close()
