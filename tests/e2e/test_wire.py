"""What goes over the mesh: TLS 1.3 with both identities, and nothing else."""

import json
import time
from datetime import UTC, datetime

import pytest

from tests.helpers.mesh import STACK, Mesh

pytestmark = pytest.mark.docker

MARKER = "a-secret-that-one-would-find"
# A connection per request: the capture then sees whole conversations, with their handshakes.
FRESH = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: fresh}
spec:
  host: api
  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}, tcp: {connectTimeout: 30s}}}
"""
TLS_13 = "0304"
API_NAME = "p8080.api.default.mesh"
REQUEST = "GET /healthz HTTP/1.1\r\nHost: api:8080\r\nX-Speaker: {}\r\n\r\n"


def spiffe(service: str) -> str:
    """The identity of a service of the stack."""
    return f"spiffe://cluster.local/ns/{STACK}/sa/{service}"


def post_orders(mesh: Mesh, count: int) -> None:
    """`web` posts orders that carry MARKER, more than one at a time."""
    body, sent = json.dumps({"id": MARKER}), 0
    while sent < count:
        with mesh.load(mesh.app("web"), "POST", "http://api:8080/orders", body, rate=40) as load:
            time.sleep(1)
            counted = load.result()
        sent += counted.total
        assert counted.counts == {"201": counted.total}, counted.failures


@pytest.fixture(scope="module")
def seen(deployed: Mesh) -> dict:
    """What api's sidecar sent and received while `web` posted orders; the pool was emptied before."""
    deployed.apply(FRESH)
    try:
        post_orders(deployed, 100)
        since = datetime.now(UTC)
        with deployed.capture(deployed.sidecar("api"), MARKER) as capture:
            post_orders(deployed, 20)
    finally:
        deployed.ok("delete", "DestinationRule", "fresh")
    return {**capture, "since": since}


def test_the_capture_would_see_plaintext(deployed: Mesh, seen: dict):
    """The positive control: between sidecar and app, where it is plain by design, the marker is found."""
    assert deployed.sidecar("api").addresses[f"{STACK}_api-pod"] in seen["markers"][MARKER]


def test_no_plaintext_goes_over_the_mesh(deployed: Mesh, seen: dict):
    """Each byte of every TCP stream on the mesh is in a TLS record; the marker is in none of the packets."""
    mesh = deployed.sidecar("api").addresses["mesh"]
    assert mesh not in seen["markers"][MARKER]
    streams = [each for each in seen["streams"] if each["interface"] == mesh and each["bytes"]]
    assert len(streams) >= 40
    assert [each for each in streams if each["no_tls"]] == []
    others = [each for each in streams if not {each["from"][1], each["to"][1]} & {15443, 15012}]
    assert others == []


def test_every_handshake_on_the_wire_chose_tls_1_3(deployed: Mesh, seen: dict):
    """Both directions of each connection from web: a ServerHello with 0x0304, then only encrypted records."""
    web, api = (deployed.sidecar(name).addresses["mesh"] for name in ("web", "api"))
    whole = [each for each in seen["streams"] if each["is_whole"] and each["records"]]
    answers = [each for each in whole if each["from"] == [api, 15443] and each["to"][0] == web]
    questions = [each for each in whole if each["to"] == [api, 15443] and each["from"][0] == web]
    assert len(answers) >= 19
    assert len(questions) >= 19
    assert {each["version"] for each in answers} == {TLS_13}
    assert all(23 in each["types"] for each in (*answers, *questions))


def test_the_sidecars_of_these_connections_know_each_other(deployed: Mesh, seen: dict):
    """api logs web's SPIFFE id for each request, from web's own address; web sent them to api's sidecar."""
    web, api = (deployed.sidecar(name).addresses["mesh"] for name in ("web", "api"))

    def lines(service: str, direction: str) -> list[dict]:
        logged = deployed.access_log(service, seen["since"])
        return [each for each in logged if each["direction"] == direction and each.get("method") == "POST"]

    deployed.engine.wait("the log is written", lambda: len(lines("api", "inbound")) >= 20, 15)
    inbound, outbound = lines("api", "inbound"), lines("web", "outbound")
    assert {each["principal"] for each in inbound} == {spiffe("web").removeprefix("spiffe://")}
    assert {each["downstream_remote_address"] for each in inbound} == {web}
    assert {each["requested_server_name"] for each in inbound} == {API_NAME}
    assert {each["upstream_host"] for each in outbound} == {f"{api}:15443"}


class Speaker:
    """Speaks to api's sidecar from the network namespace of web's, as whoever has got that far could."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.web, self.api = mesh, mesh.sidecar("web"), mesh.sidecar("api")

    def enrol(self, service: str) -> dict:
        """What a certificate is asked for with: the token of a service, the task and address of web's."""
        return {
            "service": f"{STACK}/{service}",
            "task": self.web.id,
            "token": self.mesh.join_token(service),
            "bundle": self.mesh.operator.context.ca_pem,
            "control_plane": self.mesh.engine.task("mesh-system_control-plane").addresses["mesh"],
        }

    def speak(self, who: str, **what: object) -> dict:
        address = self.api.addresses["mesh"]
        request = {"address": address, "server_name": API_NAME, "request": REQUEST.format(who), **what}
        return self.mesh.probe(self.web, "speak", json.dumps(request))


@pytest.fixture
def speaker(shop: Mesh) -> Speaker:
    return Speaker(shop)


def test_a_caller_with_webs_certificate_is_answered_by_api(speaker: Speaker):
    """The positive control: with web's certificate the handshake is TLS 1.3, and api proves its SPIFFE id."""
    told = speaker.speak("itself", enrol=speaker.enrol("web"))
    assert told["version"] == "TLSv1.3", told
    assert told["server"] == [spiffe("api")]
    assert told["answer"].startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize("tls", ["1.2", "1.3", "none"])
def test_a_caller_without_a_certificate_gets_nothing(speaker: Speaker, tls: str):
    """Neither TLS without a certificate nor plain HTTP brings an answer of the app."""
    told = speaker.speak("nobody", tls=tls)
    assert "200" not in told.get("answer", ""), told
    assert told.get("refused") or told.get("answer") == "", told


def test_a_caller_with_a_certificate_cannot_go_back_to_tls_1_2(speaker: Speaker):
    """TLS 1.2 is refused, whoever asks."""
    assert "refused" in speaker.speak("old", enrol=speaker.enrol("web"), tls="1.2")


@pytest.mark.parametrize("what", ["its token", "its name", "its task", "a forged token"])
def test_nobody_enrols_as_another_service(speaker: Speaker, what: str):
    """At web's sidecar neither api's token, nor its name, nor its task, nor a made-up token is enough."""
    mine, theirs = speaker.enrol("web"), speaker.enrol("api")
    attempts = {
        "its token": theirs,
        "its name": {**mine, "service": theirs["service"]},
        "its task": {**theirs, "task": speaker.api.id},
        "a forged token": {**theirs, "token": mine["token"][:-4] + "AAAA"},
    }
    told = speaker.speak("thief", enrol=attempts[what])
    assert told["enrolment"] in {401, 403}, told


def test_an_identity_in_a_header_is_worth_nothing(shop: Mesh):
    """web claims to be another in the header by which proxies tell identities; the callee knows better."""
    since = datetime.now(UTC)
    other = "spiffe://cluster.local/ns/x/sa/y"
    headers = {"X-Forwarded-Client-Cert": f"By={other};URI={other}"}
    assert shop.fetch(shop.app("web"), "http://api:8080/healthz", headers=headers).status == 200

    def line() -> list[dict]:
        return [each for each in shop.access_log("api", since) if each["direction"] == "inbound"]

    logged = shop.engine.wait("it is logged", line, 15)
    assert {each["principal"] for each in logged} == {spiffe("web").removeprefix("spiffe://")}
