"""Fields that the mesh writes."""

from __future__ import annotations

import os
import re

from meshpy.model.route import HeaderOps
from proxy.decide.headers import Ids, client_certificate, fold, forwarded_for, spoofed_names
from proxy.http.head import RequestHead
from proxy.http.request_head import parse_request_head


def head(*lines: str) -> RequestHead:
    text = "\r\n".join(("GET / HTTP/1.1", "Host: api", *lines)) + "\r\n\r\n"
    parsed = parse_request_head(text.encode("latin-1"))
    assert isinstance(parsed, RequestHead)
    return parsed


def test_ids_are_well_formed_and_never_repeat():
    ids = Ids(os.urandom)
    seen = {ids.request_id() for _ in range(2000)} | {ids.traceparent() for _ in range(2000)}
    assert len(seen) == 4000
    uuid = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(uuid, ids.request_id()) for _ in range(500))


def test_names_of_the_mesh_are_found_in_every_spelling():
    found = spoofed_names(
        head("X-Forwarded-Client-Cert: a", "x_forwarded_client_cert: b", "X-Meshpy-Y: c", "X-Other: d")
    )
    assert sorted(found) == [b"x-forwarded-client-cert", b"x-meshpy-y", b"x_forwarded_client_cert"]


def test_a_stranger_s_address_is_appended():
    extra: list[tuple[bytes, bytes]] = []
    dropped = forwarded_for(
        head("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7", "x_real_ip: 9.9.9.9"), "10.0.0.1", extra
    )
    assert dict(extra)[b"x-forwarded-for"] == b"6.6.6.6, 7.7.7.7, 10.0.0.1"
    assert dict(extra)[b"x-forwarded-proto"] == b"http"
    assert set(dropped) == {b"x-forwarded-for", b"x_real_ip"}


def test_rules_fold_in_order_and_the_later_set_wins():
    folded = fold(
        (
            HeaderOps(set=(("X-A", "1"), ("Host", "first")), add=(("X-B", "1"),)),
            HeaderOps(set=(("x-a", "2"), (":authority", "second")), add=(("X-B", "2"),), remove=("X-C",)),
        )
    )
    assert folded.extra == ((b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"2"))
    assert folded.drop == {b"x-a", b"x-c"}
    assert folded.host == b"second"


def test_the_certificate_field_has_envoy_s_form():
    name, value = client_certificate("spiffe://d/a", "spiffe://d/b", "ab12")
    assert name == b"x-forwarded-client-cert"
    assert value == b'By=spiffe://d/a;Hash=ab12;Subject="";URI=spiffe://d/b'
