"""What the injected stack looks like to Swarm: networks, names, ports, labels, and who is left out."""

import pytest

from meshpy.inject import inventory_of_stack, only_sidecars
from meshpy.inject.reach import BUDGET_BYTES
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Port
from meshpy.model.names import ServiceName
from tests.helpers.stacks import HEAD, injected, model, problems, services

THREE = (
    HEAD
    + """  web:
    image: nginx
    ports: ["80:80"]
    networks: [front]
  api:
    image: acme/api
    hostname: api-host
    networks:
      front: {aliases: [backend]}
      back:
    labels: {meshpy.ports: 8080/http}
    deploy:
      replicas: 2
      placement: {constraints: [node.role == worker]}
  db:
    image: postgres:16
    stop_grace_period: 1m30s
    networks: [back]
networks:
  front:
  back: {driver: overlay, internal: true}
"""
)


def test_an_app_sits_alone_with_its_sidecar_on_an_internal_encrypted_network() -> None:
    value = model(injected(THREE).text)
    for name in ("web", "api", "db"):
        pods = value["services"][name]["networks"]
        assert list(pods) == [f"{name}-pod"]
        users = [key for key, service in value["services"].items() if f"{name}-pod" in service["networks"]]
        assert users == [name, f"{name}-sidecar"]
        assert value["networks"][f"{name}-pod"] == {
            "driver": "overlay",
            "internal": True,
            "driver_opts": {"encrypted": "true"},
        }
        assert "ports" not in value["services"][name]


def test_a_sidecar_answers_to_every_name_of_what_its_app_could_reach_and_to_no_other() -> None:
    found = services(THREE)
    api = {"backend", "api-host", "api", "shop_api", "tasks.api", "tasks.shop_api"}
    web = {"web", "shop_web", "tasks.web", "tasks.shop_web"}
    db = {"db", "shop_db", "tasks.db", "tasks.shop_db"}
    assert set(found["web-sidecar"]["networks"]["web-pod"]["aliases"]) == api
    assert set(found["api-sidecar"]["networks"]["api-pod"]["aliases"]) == web | db
    assert set(found["db-sidecar"]["networks"]["db-pod"]["aliases"]) == api


def test_a_sidecar_gets_the_way_of_life_of_its_app_and_less_power() -> None:
    found = services(THREE)
    api, web, db = found["api-sidecar"], found["web-sidecar"], found["db-sidecar"]
    assert api["deploy"]["replicas"] == 2
    assert api["deploy"]["placement"] == {"constraints": ["node.role == worker"]}
    assert api["deploy"]["update_config"]["order"] == "start-first"
    assert web["ports"] == ["80:80"]
    assert db["stop_grace_period"] == "90s"
    assert api["stop_grace_period"] == "30s"
    for sidecar in (api, web, db):
        assert sidecar["cap_drop"] == ["ALL"]
        assert sidecar["read_only"] is True
        assert sidecar["sysctls"]["net.ipv4.ip_forward"] == "0"
        assert not sidecar["user"].startswith(("0", "root"))


def test_only_a_sidecar_that_publishes_has_a_network_that_leads_out() -> None:
    found = services(THREE)
    assert {name for name, service in found.items() if "egress" in service["networks"]} == {"web-sidecar"}


def test_labels_tell_the_control_plane_what_the_file_said() -> None:
    labels = services(THREE)["api-sidecar"]["deploy"]["labels"]
    assert labels == {
        "meshpy.workload": "api",
        "meshpy.pod": "shop_api-pod",
        "meshpy.networks": "shop_back,shop_front",
        "meshpy.ports": "8080/http",
        "meshpy.hosts": "backend,api-host",
    }
    assert services(THREE)["web-sidecar"]["deploy"]["labels"]["meshpy.ingress"] == "80"


def test_the_inventory_is_the_same_before_and_after_injection() -> None:
    before = inventory_of_stack(THREE, "shop")
    assert inventory_of_stack(injected(THREE).text, "shop") == before
    api = before.services[ServiceName("shop", "api")]
    assert api.ports == (Port(8080, Protocol.HTTP),)
    assert api.networks == {"shop_front", "shop_back"}
    assert api.app.dns == "tasks.api.shop_api-pod"
    assert api.bind == {"": "shop_api-pod"}
    assert api.labels == {"app": "api", "service": "api", "stack": "shop"}
    assert before.services[ServiceName("shop", "web")].ports == (Port(80, Protocol.HTTP, published=True),)


def test_two_opaque_callees_on_one_port_get_networks_of_their_own() -> None:
    text = HEAD + "  api:\n    image: acme/api\n    labels: {meshpy.ports: ''}\n"
    text += (
        "  db1: {image: postgres}\n  db2: {image: postgres}\n  web: {image: nginx}\n  web2: {image: nginx}\n"
    )
    sidecar = services(text)["api-sidecar"]
    assert "db1" in sidecar["networks"]["api-pod"]["aliases"]
    assert {"web", "web2"} < set(sidecar["networks"]["api-pod"]["aliases"])
    assert "db2" in sidecar["networks"]["api-pod2"]["aliases"]
    assert "db2=shop_api-pod2" in sidecar["deploy"]["labels"]["meshpy.binds"].split(",")
    assert services(text)["api"]["networks"] == ["api-pod", "api-pod2"]
    assert (
        inventory_of_stack(text, "shop").services[ServiceName("shop", "api")].bind["db2"] == "shop_api-pod2"
    )


def test_services_of_one_logical_host_share_it() -> None:
    text = HEAD + "  api:\n    image: nginx\n"
    for version in ("v1", "v2"):
        text += f"  c-{version}:\n    image: x\n    labels: {{meshpy.host: c, meshpy.ports: 80/tcp}}\n"
    aliases = services(text)["api-sidecar"]["networks"]["api-pod"]["aliases"]
    assert {"c", "c-v1", "c-v2"} < set(aliases)


def many(count: int, length: int) -> str:
    body = "".join(f"  {'n' * length}{index:02}: {{image: nginx}}\n" for index in range(count))
    return HEAD + "  api: {image: nginx}\n" + body


def test_names_keep_to_what_one_gossip_packet_carries() -> None:
    found = services(many(50, 20))["api-sidecar"]["networks"]
    sizes = {
        key: sum(len(alias) + 2 for alias in (item or {}).get("aliases", ())) for key, item in found.items()
    }
    assert max(sizes.values()) <= BUDGET_BYTES
    names = [alias for item in found.values() for alias in (item or {}).get("aliases", ())]
    assert len(names) == len(set(names)) == 50


def test_too_many_names_are_refused_with_what_to_write() -> None:
    (problem, *_) = problems(many(150, 47))
    assert "dependencies" in problem.instead


SOCKET = "    volumes: ['/var/run/docker.sock:/var/run/docker.sock']\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (SOCKET, "Docker socket"),
        ("    labels: {meshpy.enable: 'false'}\n", 'meshpy.enable is "false"'),
        ("    ports: ['53:53/udp']\n", "UDP"),
        ("    ports: [{target: 1, published: 1, protocol: sctp}]\n", "SCTP"),
        ("    networks: [outside]\n", "`host`"),
        ("    deploy: {mode: global}\n    volumes: ['/proc:/host/proc:ro']\n", "agent"),
    ],
)
def test_who_is_left_out_is_named_with_the_reason_and_otherwise_unchanged(body: str, reason: str) -> None:
    text = HEAD + f"  a:\n    image: acme/a\n{body}  b: {{image: redis}}\n"
    text += "networks:\n  outside: {external: true, name: host}\n"
    done = injected(text)
    assert reason in done.report.exempt["a"]
    before, after = model(text)["services"]["a"], model(done.text)["services"]["a"]
    assert reason in after["deploy"]["labels"].pop("meshpy.exempt")
    after["deploy"]["labels"].pop("meshpy.ports", None)
    deploy = {key: value for key, value in after.pop("deploy").items() if value}
    assert deploy == before.pop("deploy", {})
    assert after == before


def test_an_order_to_mesh_wins_over_habits_but_not_over_what_cannot_work() -> None:
    body = f"  a:\n    image: redis\n{SOCKET}    labels: {{meshpy.enable: 'true'}}\n"
    assert injected(HEAD + body).report.exempt == {}
    text = HEAD + "  a:\n    image: redis\n    networks: [o]\n    labels: {meshpy.enable: 'true'}\n"
    (problem,) = problems(text + "networks:\n  o: {external: true, name: host}\n")
    assert problem.place.line == 6


def test_peers_that_name_each_other_stay_together_outside() -> None:
    text = HEAD
    for name, other in (("k1", "k2"), ("k2", "k1")):
        text += f"  {name}:\n    image: bitnami/kafka\n"
        text += f"    environment: {{VOTERS: '1@{name}:9093,2@{other}:9093'}}\n"
    text += "  app:\n    image: acme/app\n    labels: {meshpy.ports: ''}\n    environment: {K: 'k1:9092'}\n"
    done = injected(text)
    assert set(done.report.exempt) == {"k1", "k2"}
    sidecar = model(done.text)["services"]["app-sidecar"]
    assert "k1" in sidecar["networks"]["app-pod"]["aliases"]
    assert "app" in sidecar["networks"]["default"]["aliases"]
    k1 = inventory_of_stack(text, "shop").services[ServiceName("shop", "k1")]
    assert k1.app.dns == "tasks.shop_k1.shop_default"
    assert k1.exempt


def test_exempt_and_foreign_callers_find_the_sidecar_where_the_app_was() -> None:
    text = HEAD + f"  agent:\n    image: x/agent\n{SOCKET}    networks: [ops]\n"
    text += "  api:\n    image: nginx\n    networks: [ops, back, proxy]\n"
    text += "  db:\n    image: redis\n    networks: [back]\n"
    text += "networks:\n  ops:\n  back:\n  proxy: {external: true, name: traefik_public}\n"
    found = services(text)["api-sidecar"]
    assert list(found["networks"]) == ["api-pod", "mesh", "ops", "proxy"]
    assert found["networks"]["ops"]["aliases"] == ["api", "shop_api", "tasks.api", "tasks.shop_api"]
    assert found["deploy"]["labels"]["meshpy.ingress"] == "80"
    assert found["deploy"]["labels"]["meshpy.networks"] == "shop_back,shop_ops,traefik_public"
    assert found["deploy"]["labels"]["meshpy.doors"] == "shop_ops,traefik_public"


def test_labels_of_proxies_move_to_the_sidecar() -> None:
    text = HEAD + "  a:\n    image: nginx\n    deploy:\n      labels:\n        - traefik.enable=true\n"
    text += "        - team=blue  # stays\n        - traefik.http.routers.${N}.rule=Host(`a$$b`)\n"
    found = services(text)
    assert found["a"]["deploy"]["labels"] == ["team=blue"]
    assert "traefik.http.routers.${N}.rule=Host(`a$$b`)" in found["a-sidecar"]["deploy"]["labels"]
    assert "traefik.enable=true" in found["a-sidecar"]["deploy"]["labels"]
    assert "        - team=blue  # stays\n" in injected(text).text


def test_without_ip_vs_ports_become_the_nodes_own() -> None:
    text = HEAD + "  a:\n    image: nginx\n    ports: ['8000-8001:80-81', '9:90']\n"
    sidecar = services(text, endpoint_mode="dnsrr")["a-sidecar"]
    assert sidecar["deploy"]["endpoint_mode"] == "dnsrr"
    assert sidecar["deploy"]["update_config"]["order"] == "stop-first"
    assert sidecar["ports"] == [
        {"target": 80, "published": 8000, "protocol": "tcp", "mode": "host"},
        {"target": 81, "published": 8001, "protocol": "tcp", "mode": "host"},
        {"target": 90, "published": 9, "protocol": "tcp", "mode": "host"},
    ]


@pytest.mark.parametrize(
    ("deploy", "expected"),
    [
        ("{mode: global}", {"mode": "global"}),
        ("{mode: global-job}", {"mode": "global"}),
        ("{mode: replicated-job, replicas: 3}", {}),
        ("{replicas: '${N:-2}'}", {"replicas": "${N:-2}"}),
        ("{replicas: 0}", {"replicas": 0}),
    ],
)
def test_mode_and_replicas_of_a_sidecar_follow_its_app(deploy: str, expected: dict) -> None:
    found = services(HEAD + f"  a:\n    image: nginx\n    deploy: {deploy}\n")["a-sidecar"]["deploy"]
    assert {key: found[key] for key in ("mode", "replicas") if key in found} == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (HEAD + "  a: {image: redis}\n  a-sidecar: {image: redis}\n", "needs that name"),
        (HEAD + "  a: {image: redis}\nnetworks:\n  a-pod:\n", "needs that name"),
        (HEAD + f"  {'a' * 55}: {{image: redis}}\n", "Swarm allows 63"),
        (
            HEAD
            + "  a:\n    image: redis\n    networks: [m]\nnetworks:\n  m: {external: true, name: mesh}\n",
            "only",
        ),
    ],
)
def test_names_that_collide_or_do_not_fit_are_refused(text: str, part: str) -> None:
    assert any(part in problem.what for problem in problems(text))


def test_only_sidecars_keeps_what_they_need_and_nothing_else() -> None:
    text = THREE + "secrets:\n  own: {external: true}\nvolumes:\n  v:\n"
    value = model(only_sidecars(injected(text).text))
    assert list(value["services"]) == ["web-sidecar", "api-sidecar", "db-sidecar"]
    assert set(value["secrets"]) == {"meshpy-join-web", "meshpy-join-api", "meshpy-join-db"}
    full = model(injected(text).text)
    assert value["services"] == {name: full["services"][name] for name in value["services"]}
    assert value["networks"] == full["networks"]
    assert "volumes" not in value


def test_only_sidecars_keeps_the_volumes_of_their_caches() -> None:
    """Without them the first step of every deployment was refused: undefined volume."""
    value = model(only_sidecars(injected(THREE + "volumes:\n  v:\n", cache=True).text))
    assert set(value["volumes"]) == {f"{name}-sidecar-cache" for name in ("web", "api", "db")}
