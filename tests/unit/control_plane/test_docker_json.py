"""The engine's JSON as a view: sidecars joined with their apps, tasks as endpoints, nothing guessed."""

import copy
from dataclasses import replace

import pytest

from control_plane.discovery.docker_json import NOT_INJECTED, view_of
from control_plane.errors import DiscoveryError
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.inventory import AppAddress, EgressHost, Port
from meshpy.model.names import ServiceName
from tests.helpers.docker_answers import answers, swarm_service, task

API = ServiceName("shop", "api")


def test_an_injected_service_is_read_from_its_sidecar_and_its_app():
    found = view_of(answers()).inventory.services[API]
    assert found.ports == (Port(5432, Protocol.TCP), Port(8080, Protocol.HTTP, published=True))
    assert found.hosts == ("shop-api", "backend")
    assert found.networks == {"shop_default", "traefik_public"}
    assert found.bind == {"": "shop_api-pod", "db2": "shop_api-pod2"}
    assert found.app == AppAddress(dns="tasks.api.shop_api-pod")
    assert found.egress == (EgressHost("api.stripe.com", 443, Protocol.TLS),)
    assert found.endpoints == (Endpoint("10.0.1.7", 15443, API, "worker-1"),)


def test_selector_labels_are_the_apps_own_without_those_of_other_tools():
    labels = view_of(answers()).inventory.services[API].labels
    assert labels == {"app": "api", "service": "api", "stack": "shop", "tier": "back", "version": "v2"}


def test_services_outside_the_mesh_say_why():
    services = view_of(answers()).inventory.services
    assert services[ServiceName("shop", "db")].exempt == "mounts docker.sock"
    assert services[ServiceName("shop", "db")].ports == (Port(5432, Protocol.TCP, published=True),)
    assert services[ServiceName("shop", "old")].exempt == NOT_INJECTED
    assert services[ServiceName("shop", "old")].networks == {"shop_default"}
    assert set(services) == {API, ServiceName("shop", "db"), ServiceName("shop", "old")}


@pytest.mark.parametrize(
    ("state", "desired", "is_known", "is_endpoint"),
    [
        ("running", "running", True, True),
        ("starting", "running", True, False),
        ("preparing", "running", False, False),
        ("running", "shutdown", False, False),
        ("failed", "running", False, False),
        ("complete", "shutdown", False, False),
    ],
)
def test_a_task_is_an_endpoint_only_while_it_runs_and_is_meant_to(state, desired, is_known, is_endpoint):
    view = view_of(answers(tasks=[task(1, state=state, desired=desired)]))
    assert ("task-1" in view.tasks) is is_known
    assert bool(view.inventory.services[API].endpoints) is is_endpoint


def test_a_task_carries_its_addresses_by_network_for_attestation():
    found = view_of(answers()).tasks["task-1"]
    assert found.service == API
    assert found.addresses == {"mesh": ("10.0.1.7",), "shop_api-pod": ("10.0.5.1",)}


def test_where_callers_without_a_sidecar_arrive_is_the_sidecars_edge():
    """An address on such a network is not told: what a sidecar knows no network of, it takes for its edge."""
    labels = {"meshpy.workload": "api", "meshpy.doors": "shop_api-pod,traefik_public"}
    view = view_of(answers(services=[swarm_service("api-sidecar", labels=labels)]))
    assert view.tasks["task-1"].addresses == {"mesh": ("10.0.1.7",)}


def test_tasks_of_apps_are_no_endpoints():
    view = view_of(answers(tasks=[task(1), task(2, service="shop_api", mesh="10.0.1.66")]))
    assert [e.address for e in view.inventory.services[API].endpoints] == ["10.0.1.7"]


@pytest.mark.parametrize("where", ["services", "tasks", "nodes", "networks"])
@pytest.mark.parametrize("bad", [{}, {"Id": 1}, None, "text", []])
def test_a_partial_answer_is_an_error_and_never_a_smaller_swarm(where, bad):
    with pytest.raises(DiscoveryError):
        view_of(answers(**{where: [bad]}))


def test_dropping_any_required_part_of_a_task_is_noticed():
    for key in ("ID", "ServiceID", "DesiredState", "Status"):
        broken = copy.deepcopy(task(1))
        del broken[key]
        with pytest.raises(DiscoveryError):
            view_of(answers(tasks=[broken]))


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("meshpy.ports", "http"),
        ("meshpy.ports", "0/http"),
        ("meshpy.ports", "80/htpp"),
        ("meshpy.egress", "api.stripe.com/tls"),
        ("meshpy.binds", "db2"),
        ("meshpy.servers", "[{}]"),
        ("meshpy.gateway", "443"),
        ("meshpy.egress_gateway", "mesh-egress"),
    ],
)
def test_a_label_that_cannot_be_read_holds_up_its_service_alone(label, value):
    """Without a last look it is not there, and its app is not taken for one outside of the mesh."""
    api, db = ServiceName("shop", "api"), ServiceName("shop", "db")
    bad = swarm_service("api-sidecar", labels={"meshpy.workload": "api", label: value})
    services = [bad, swarm_service("api"), swarm_service("db")]
    view = view_of(answers(services=services))
    assert set(view.inventory.services) == {db}
    assert "shop_api-sidecar" in view.unread[0]
    assert "left out" in view.unread[0]
    last = view_of(answers()).inventory.services
    kept = view_of(answers(services=services, tasks=[]), last)
    assert kept.inventory.services[api] == replace(last[api], endpoints=())
    assert "stays what it was" in kept.unread[0]


def test_a_label_of_an_app_outside_of_the_mesh_holds_up_that_app_alone():
    services = [swarm_service("db", labels={"meshpy.ports": "many"}), swarm_service("web")]
    view = view_of(answers(services=services))
    assert set(view.inventory.services) == {ServiceName("shop", "web")}
    assert view.unread == ("labels of shop_db: 'many' is no port; it is left out",)


def test_an_exempt_service_is_reached_by_its_tasks_on_a_network_that_callers_were_on():
    db = view_of(answers()).inventory.services[ServiceName("shop", "db")]
    assert db.app == AppAddress(dns="tasks.shop_db.shop_default")
    assert db.hosts == ("db.local",)


def test_an_exempt_service_tells_its_ports_and_names_by_label_and_hostname():
    labels = {"meshpy.exempt": "x", "meshpy.ports": "9092/tcp", "meshpy.host": "kafka"}
    service = swarm_service("broker", labels=labels, ports=(80,))
    service["Spec"]["TaskTemplate"]["ContainerSpec"]["Hostname"] = "broker-1"
    found = view_of(answers(services=[service])).inventory.services[ServiceName("shop", "broker")]
    assert found.ports == (Port(9092, Protocol.TCP),)
    assert found.hosts == ("broker.local", "broker-1", "kafka")


@pytest.mark.parametrize(
    ("labels", "locality"),
    [
        ({}, "//worker-1"),
        ({"meshpy.locality": "eu/a"}, "eu/a/worker-1"),
        ({"meshpy.locality": "eu/a/rack-3"}, "eu/a/rack-3"),
        ({"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "a"}, "eu/a/worker-1"),
    ],
)
def test_a_node_s_locality_is_in_its_labels_and_the_node_is_its_own_subzone(labels, locality):
    given = answers()
    nodes = [{**node, "Spec": {"Labels": labels}} for node in given.nodes]
    assert view_of(replace(given, nodes=nodes)).inventory.localities == {"worker-1": locality}
