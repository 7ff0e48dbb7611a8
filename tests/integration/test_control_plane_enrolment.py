"""Enrolment over real TLS: who gets a certificate, for which name, and who is told why not."""

import asyncio
import json
import ssl
from datetime import UTC, datetime

import aiohttp
import pytest
from cryptography import x509

from certs.bundle import TrustBundle
from certs.certificates import certificates_from_pem
from certs.identity import Identity
from certs.keys import generate_key, key_to_pem
from certs.tls import client_context, verify_peer
from control_plane.attest import SwarmAttestor
from control_plane.discovery.docker_json import view_of
from control_plane.rate import RateLimit
from meshpy.model.names import CONTROL_PLANE, ServiceName
from tests.helpers.control_plane import API, TRUST_DOMAIN, WEB, csr_pem, plane
from tests.helpers.docker_answers import answers, task
from tests.helpers.hostile_csrs import hostile_csrs, pem
from tests.helpers.pki import mesh_pki


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


def _body(**changes):
    return {"csr": csr_pem(generate_key(), API), "service": "shop/api", "task": "t1", **changes}


async def test_a_token_and_a_csr_become_an_svid_of_the_service(mesh):
    identity = await mesh.enrol(API)
    assert str(identity.spiffe_id) == "spiffe://cluster.local/ns/shop/sa/api"
    assert 3500 < (identity.not_after - datetime.now(UTC)).total_seconds() <= 3600


async def test_the_server_is_the_control_plane_by_its_svid(mesh):
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", mesh.running.sidecar_port, ssl=mesh.anonymous()
    )
    wanted = mesh.running.parts.signing.spiffe_id(CONTROL_PLANE)
    found = verify_peer(
        writer.get_extra_info("ssl_object"), TRUST_DOMAIN, datetime.now(UTC), expected=frozenset({wanted})
    )
    assert found == wanted
    writer.close()
    del reader


async def test_a_client_that_verifies_names_finds_that_of_the_control_plane_and_of_nobody_else(mesh):
    """Prometheus, curl; leaves of sidecars carry their identity alone."""
    context = mesh.anonymous()
    context.check_hostname = True
    port = mesh.running.sidecar_port
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="control-plane")
    writer.close()
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="api")
    leaf = certificates_from_pem((await mesh.enrol(API)).chain_pem)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [type(name) for name in names] == [x509.UniformResourceIdentifier]


async def test_no_token_or_a_wrong_one_gets_nothing(mesh):
    assert (await mesh.ask(_body()))[0] == 401
    assert (await mesh.ask(_body(token="mj1.e30.AAAA")))[0] == 401
    assert (await mesh.ask(_body(token=7)))[0] == 401


async def test_a_token_of_another_service_gets_nothing(mesh):
    status, answer = await mesh.ask(_body(token=await mesh.token(WEB)))
    assert (status, answer["evidence"]) == (403, "token")


async def test_a_service_that_is_not_in_the_inventory_gets_nothing(mesh):
    token = await mesh.token(ServiceName("shop", "ghost"))
    status, answer = await mesh.ask(_body(service="shop/ghost", token=token))
    assert (status, answer["evidence"]) == (403, "service")


async def test_a_revoked_token_gets_nothing(mesh):
    _, made = await mesh.call("POST", "/v1/join-tokens", {"service": "shop/api"})
    assert (await mesh.call("DELETE", f"/v1/join-tokens/{made['id']}"))[0] == 200
    assert (await mesh.ask(_body(token=made["token"])))[0] == 401


async def test_an_id_that_no_token_has_is_told_and_refused_by_force_alone(mesh):
    """A token whose record was lost is still one."""
    await mesh.call("POST", "/v1/join-tokens", {"service": "shop/api"})
    tokens, now = mesh.running.parts.tokens, datetime.now(UTC)
    token = tokens.issue(API, now)
    path = f"/v1/join-tokens/{tokens.read(token, now).id}"
    status, answer = await mesh.call("DELETE", path)
    assert (status, "join-token list" in answer["detail"]) == (404, True)
    assert len((await mesh.call("GET", "/v1/join-tokens"))[1]["tokens"]) == 1
    assert (await mesh.call("DELETE", f"{path}?force=true"))[0] == 200
    assert (await mesh.ask(_body(token=token)))[0] == 401


async def _once(mesh, **fields):
    body = {"service": "shop/api", "once": True, "ttl_s": 60, **fields}
    return (await mesh.call("POST", "/v1/join-tokens", body))[1]


async def test_fifty_replays_of_one_token_are_one_certificate(mesh):
    """In parallel, each with a key of its own: one is signed, by the audit log too."""
    made = await _once(mesh)
    asked = [mesh.ask(_body(token=made["token"])) for _ in range(50)]
    statuses = [status for status, _ in await asyncio.gather(*asked)]
    assert (statuses.count(200), statuses.count(401)) == (1, 49)
    audit = [json.loads(line) for line in (mesh.folder / "data" / "audit.jsonl").read_text().splitlines()]
    assert [each["event"] for each in audit].count("certificate-issued") == 1
    (shown,) = (await mesh.call("GET", "/v1/join-tokens"))[1]["tokens"]
    assert (shown["state"], shown["used_by"], shown["once"]) == ("used", "127.0.0.1", True)
    assert made["token"] not in json.dumps(shown)


async def test_a_bad_request_does_not_cost_the_token(mesh):
    made = await _once(mesh)
    assert (await mesh.ask(_body(token=made["token"], csr="nonsense")))[0] == 400
    assert (await mesh.ask(_body(token=made["token"], csr=csr_pem(generate_key(), WEB))))[0] == 400
    assert (await mesh.ask(_body(token=made["token"])))[0] == 200


async def test_a_token_for_another_address_or_that_ended_gets_nothing(mesh):
    status, answer = await mesh.ask(_body(token=(await _once(mesh, address="192.0.2.7"))["token"]))
    assert (status, answer["evidence"]) == (403, "address")
    ended = mesh.running.parts.tokens.issue(API, datetime(2020, 1, 1, tzinfo=UTC), ttl_s=60)
    status, answer = await mesh.ask(_body(token=ended))
    assert (status, "ended at 2020" in answer["detail"]) == (401, True)


@pytest.mark.parametrize("wrong", [{"ttl_s": 0}, {"ttl_s": True}, {"address": "10.0.0.0/8"}, {"once": "yes"}])
async def test_a_token_is_made_by_what_is_understood(mesh, wrong):
    body = {"service": "shop/api", **wrong}
    assert (await mesh.call("POST", "/v1/join-tokens", body))[0] == 400


async def test_outside_the_swarm_a_token_joins_and_the_certificate_renews_until_it_is_revoked(mesh):
    """The engine knows no such task; the evidence is the token, then the address it came in from."""
    SwarmWorld(mesh)
    made = await _once(mesh)
    key = generate_key()
    status, answer = await mesh.ask(_body(token=made["token"], csr=csr_pem(key, API)))
    assert status == 200
    tls = mesh.speaking_as(Identity.from_pem(answer["chain"].encode(), key_to_pem(key)))
    assert (await mesh.ask(_body(), tls))[0] == 200
    assert (await mesh.call("DELETE", f"/v1/join-tokens/{made['id']}"))[0] == 200
    status, answer = await mesh.ask(_body(), tls)
    assert (status, answer["evidence"]) == (403, "task")


async def test_renewal_needs_the_certificate_alone_and_keeps_the_name(mesh):
    identity = await mesh.enrol(API)
    tls = mesh.speaking_as(identity)
    assert (await mesh.ask(_body(), tls))[0] == 200
    status, answer = await mesh.ask(_body(service="shop/web", csr=csr_pem(generate_key(), WEB)), tls)
    assert (status, answer["evidence"]) == (403, "certificate")


async def test_an_expired_or_foreign_certificate_does_not_even_finish_the_handshake(mesh):
    signing = mesh.running.parts.signing
    foreign = mesh_pki(TRUST_DOMAIN)
    bundle = TrustBundle.from_pem(TRUST_DOMAIN, signing.bundle_pem.encode())
    expired = _old_identity(signing)
    for identity in (foreign.identity("shop", "api"), expired):
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await mesh.ask(_body(), client_context(identity, bundle, alpn=["http/1.1"]))


def _old_identity(signing):
    """Issued two hours ago for one hour, by the right CA."""
    from datetime import timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from certs.profile import build_leaf

    key, authority = generate_key(), signing.authority
    leaf = build_leaf(
        key.public_key(),
        signing.spiffe_id(API),
        authority.intermediate,
        authority.intermediate_key,
        now=datetime.now(UTC) - timedelta(hours=2),
        ttl_s=3600,
        serial=x509.random_serial_number(),
    )
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, authority.intermediate))
    return Identity.from_pem(chain, key_to_pem(key))


async def test_no_hostile_csr_is_answered_by_an_error_of_ours(mesh):
    """Refused with 400, or signed for the attested name: never a 500, never another name."""
    mesh.running.parts.enrolments.burst = 10_000
    token = await mesh.token(API)
    seen = 0
    for hostile in hostile_csrs():
        text = hostile.csr if hostile.csr.lstrip().startswith(b"-----") else pem(hostile.csr)
        status, answer = await mesh.ask(_body(csr=text.decode("latin-1"), token=token))
        assert status in (200, 400, 413), (hostile.name, answer)
        if status == 200:
            assert "ns/shop/sa/api" in _san(answer["chain"]), hostile.name
        seen += 1
    assert seen > 40


def _san(chain):
    from cryptography import x509

    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(san.get_values_for_type(x509.UniformResourceIdentifier))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"service":NaN}',
        b'{"service":"a/b","service":"shop/api"}',
        b"\xff\xfe",
        json.dumps({"service": "../../etc/passwd", "csr": "x", "token": "x"}).encode(),
        json.dumps({"service": ["shop/api"], "csr": "x", "token": "x"}).encode(),
        json.dumps({"service": "shop/api\nX", "csr": "x"}).encode(),
    ],
)
async def test_a_garbage_body_is_a_400(mesh, raw):
    status, answer = await mesh.ask(None, raw=raw)
    assert (status, answer["status"]) == (400, 400)


async def test_a_large_body_is_a_413(mesh):
    assert (await mesh.ask(_body(csr="x" * 70_000)))[0] == 413


async def test_too_many_requests_of_one_address_are_429_with_a_time(mesh):
    mesh.running.parts.enrolments.burst = 5
    mesh.running.parts.enrolments.per_second = 0.01
    mesh.running.parts.enrolments.per_second = 0.001  # so that a slow machine earns none back
    answered = [(await mesh.ask(_body()))[0] for _ in range(12)]
    assert answered.count(429) == 7


async def test_every_decision_is_in_the_audit_log(mesh):
    await mesh.enrol(API)
    await mesh.ask(_body(token="mj1.e30.AAAA"))
    records = [json.loads(line) for line in (mesh.folder / "data" / "audit.jsonl").read_text().splitlines()]
    events = [record["event"] for record in records]
    assert events == ["join-token", "certificate-issued", "certificate-refused"]
    assert records[1]["service"] == "shop/api"
    assert "not made by this" in records[2]["reason"]


class SwarmWorld:
    """A discovery whose engine lists one sidecar task of `api` at the address that this test calls from."""

    def __init__(self, mesh, *tasks):
        self.view, self.later = view_of(answers(tasks=list(tasks))), None
        self.attestor = SwarmAttestor(lambda: self.view, self)
        object.__setattr__(mesh.running.parts, "attestor", self.attestor)

    async def refresh(self):
        self.view = self.later or self.view


@pytest.mark.parametrize(
    ("asked", "listed", "evidence"),
    [
        ("task-1", task(1, mesh="127.0.0.1"), None),
        ("task-1", task(1, mesh="127.0.0.1", state="starting"), None),
        ("task-9", task(1, mesh="127.0.0.1"), "task"),
        ("task-1", task(1, mesh="10.0.1.7"), "address"),
        ("task-1", task(1, mesh="127.0.0.1", desired="shutdown"), "task"),
        ("task-1", task(1, mesh="127.0.0.1", state="failed"), "task"),
        ("task-1", task(1, mesh="127.0.0.1", service="shop_api"), "task"),
    ],
)
async def test_on_a_swarm_the_engine_must_agree_with_address_and_task(mesh, asked, listed, evidence):
    SwarmWorld(mesh, listed)
    status, answer = await mesh.ask(_body(task=asked, token=await mesh.token()))
    assert (status, answer.get("evidence")) == (200 if evidence is None else 403, evidence)
    if evidence is None:
        assert answer["addresses"]["mesh"] == ["127.0.0.1"]


async def test_a_task_younger_than_the_last_poll_is_looked_for_once_more(mesh):
    world = SwarmWorld(mesh)
    world.later = view_of(answers(tasks=[task(1, mesh="127.0.0.1")]))
    assert (await mesh.ask(_body(task="task-1", token=await mesh.token())))[0] == 200


def test_the_default_limit_takes_a_burst_of_a_whole_machine():
    limit = RateLimit()
    for _ in range(100):
        limit.take("10.0.0.1", 0.0)
