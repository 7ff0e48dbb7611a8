"""A second handshake is a whole handshake: certificates are verified each time, in both versions."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from certs.errors import PeerRefused
from certs.tls import client_context, peer_id, server_context
from tests.helpers.pki import mesh_pki

PKI = mesh_pki()


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialled = client.wrap_bio(to_client, to_server, session=session)
    accepted = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [dialled, accepted]
    for _ in range(8):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    # TLS 1.3 sends tickets after the handshake: reading application data takes them in.
    accepted.write(b"x")
    assert dialled.read(1) == b"x"
    return dialled, accepted


def careless(server: ssl.SSLContext) -> ssl.SSLContext:
    """The same server with resumption on: shows that the test would see it."""
    server.num_tickets = 2
    server.options &= ~ssl.OP_NO_TICKET
    return server


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
@pytest.mark.parametrize("is_careless", [False, True], ids=["ours", "careless"])
def test_a_saved_session_is_never_resumed(version: ssl.TLSVersion, *, is_careless: bool) -> None:
    """And where a context of another make resumes, `peer_id` refuses the peer."""
    server = server_context(PKI.identity("shop", "api"), PKI.bundle, alpn=["http/1.1"], allow_tls12=True)
    client = client_context(PKI.identity("shop", "web"), PKI.bundle, alpn=["http/1.1"], allow_tls12=True)
    client.maximum_version = version
    if is_careless:
        careless(server)
        client.options &= ~ssl.OP_NO_TICKET
    session = handshake(client, server, None)[0].session
    dialled, accepted = handshake(client, server, session)
    assert dialled.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert (dialled.session_reused, accepted.session_reused) == (is_careless, is_careless)
    if is_careless:
        with pytest.raises(PeerRefused) as refusal:
            peer_id(accepted, "mesh.test", datetime.now(UTC))
        assert refusal.value.reason == "resumed-session"
    else:
        assert peer_id(accepted, "mesh.test", datetime.now(UTC)) == PKI.id("shop", "web")
