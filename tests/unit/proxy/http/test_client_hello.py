"""The server name of a ClientHello: real ones of OpenSSL, and every way to spoil one."""

import ssl

import pytest

from proxy.http.client_hello import MAX_BYTES, ClientHello, HelloReader, NoHello


def real_hello(name, alpn=()):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def vector(octets, data):
    return len(data).to_bytes(octets, "big") + data


def extension(kind, data):
    return kind.to_bytes(2, "big") + vector(2, data)


def sni(*names, kind=0):
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def hello(extensions=b"", *, session=b"", ciphers=b"\x13\x01", compression=b"\x00", tail=b""):
    body = b"\x03\x03" + bytes(32) + vector(1, session) + vector(2, ciphers) + vector(1, compression)
    return body + (vector(2, extensions) if extensions is not None else b"") + tail


def records(body, size=16384, kind=22, version=b"\x03\x01", handshake=1):
    message = bytes([handshake]) + vector(3, body)
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(bytes([kind]) + version + vector(2, part) for part in parts)


def read(data, step=0):
    reader = HelloReader()
    if not step:
        return reader.feed(data)
    outcome = None
    for at in range(0, len(data), step):
        outcome = reader.feed(data[at : at + step])
        if outcome is not None:
            return outcome
    return outcome


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(("name", "seen"), [("Vault.Example.com", "vault.example.com"), (None, "")])
def test_the_name_in_a_real_hello_however_it_arrives(name, seen, step):
    assert read(real_hello(name, ["h2", "http/1.1"]), step) == ClientHello(seen)


def test_a_hello_over_many_records_is_one_hello():
    assert read(records(hello(sni(b"a.b")), size=3)) == ClientHello("a.b")


def test_what_follows_the_hello_is_none_of_its_business():
    assert read(records(hello(sni(b"a"))) + b"\x14\x03\x03\x00\x01\x01") == ClientHello("a")


def test_other_extensions_and_none_at_all_are_fine():
    more = extension(10, b"\x00\x02\x00\x1d") + sni(b"api_v1") + extension(0xFAFA, b"")
    assert read(records(hello(more))) == ClientHello("api_v1")
    assert read(records(hello(None))) == ClientHello("")
    assert read(records(hello(b""))) == ClientHello("")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not-tls"),
        (b"\x16\x02", "not-tls"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "not-tls"),
        (b"\x16\x03\x01\x00\x00", "record-length"),
        (b"\x16\x03\x01\x40\x01", "record-length"),
        (records(hello(sni(b"a")), handshake=2), "no-client-hello"),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "too-long"),
        (records(hello(sni(b"a", b"b"))), "name-twice"),
        (records(hello(sni(b"a") + sni(b"a"))), "extension-twice"),
        (records(hello(sni(b"a", kind=1))), "name-type"),
        (records(hello(sni(b""))), "length"),
        (records(hello(extension(0, b"\x00\x00"))), "length"),
        (records(hello(extension(0, b""))), "truncated"),
        (records(hello(extension(0, vector(2, b"\x00" + vector(2, b"a")) + b"x"))), "trailing-bytes"),
        (records(hello(sni(b"a"), tail=b"x")), "trailing-bytes"),
        (records(hello(sni(b"a")[:-1])), "truncated"),
        (records(hello(sni(b"a"), session=bytes(33))), "length"),
        (records(hello(sni(b"a"), ciphers=b"\x13")), "length"),
        (records(hello(sni(b"a"), ciphers=b"")), "length"),
        (records(hello(sni(b"a"), compression=b"")), "length"),
        (records(b"\x03\x03"), "truncated"),
        *(
            (records(hello(sni(name))), "name-form")
            for name in (b"a b", b"a\x00b", b"-a", b"a..b", b"\xc3\xa4", b".", b"a" * 64)
        ),
        (records(hello(sni(b".".join([b"a" * 60] * 5)))), "name-form"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_what_does_not_fit_is_refused(data, reason, step):
    assert read(data, step) == NoHello(reason)


def test_a_hello_is_gathered_up_to_its_bound():
    filler = extension(21, bytes(MAX_BYTES - 200))
    assert read(records(hello(filler + sni(b"a")))) == ClientHello("a")
    assert read(records(hello(filler + extension(22, bytes(300)) + sni(b"a")))) == NoHello("too-long")


def test_every_beginning_of_a_hello_waits_for_more():
    data = real_hello("a.example")
    assert all(read(data[:cut]) is None for cut in range(len(data)))
