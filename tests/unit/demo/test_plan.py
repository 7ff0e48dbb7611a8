"""The demo gives everyone an address, and every dependency one of its own."""

from meshpy.demo.plan import StackCommand, plan_demo
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Inventory, Port, Service
from meshpy.model.names import ServiceName


def service(name, *hosts, networks=("shop_default",)):
    return Service(
        ServiceName("shop", name),
        ports=(Port(8080, Protocol.HTTP),),
        hosts=hosts,
        networks=frozenset(networks),
    )


def plan(env, argv=("app",)):
    services = [
        service("api"),
        service("cat-v1", "cat"),
        service("cat-v2", "cat"),
        service("lone", networks=("x",)),
    ]
    commands = {s.name.name: StackCommand(tuple(argv), env if s.name.name == "api" else {}) for s in services}
    return plan_demo(Inventory({s.name: s for s in services}), commands, octet=77, left_out={})


def test_every_dependency_has_an_address_of_its_own():
    """What shares no network has no address; a logical host has one beside its services'."""
    placed = plan({}).inventory.services[ServiceName("shop", "api")]
    assert placed.bind == {"cat-v1": "127.77.1.10", "cat": "127.77.1.11", "cat-v2": "127.77.1.12"}
    assert plan({}).inventory.services[ServiceName("shop", "lone")].bind == {}


def test_host_names_in_the_environment_become_addresses():
    """Whole host names only: where a host can stand, in every form that Swarm's DNS knows."""
    env = {
        "A": "http://cat:8080/cat",
        "B": "cat-v1:8080,shop_cat-v2:1",
        "C": "cat",
        "D": "redis://u:p@tasks.cat-v1/0",
        "E": "the cat sat",
        "F": "concat:80 cat-v1x:80",
    }
    app = plan(env).apps[0]
    assert app.env == {
        "A": "http://127.77.1.11:8080/cat",
        "B": "127.77.1.10:8080,127.77.1.12:1",
        "C": "127.77.1.11",
        "D": "redis://u:p@127.77.1.10/0",
        "E": "the cat sat",
        "F": "concat:80 cat-v1x:80",
        "BIND": "127.77.1.1",
    }


def test_a_word_of_the_command_is_not_a_host():
    """A role named like a service stays; an address in an argument is replaced."""
    assert plan({}, ("app", "cat", "--upstream=http://cat:80")).apps[0].argv == (
        "app",
        "cat",
        "--upstream=http://127.77.1.11:80",
    )


def test_the_address_stands_in_the_command():
    """`{address}` is the app's own."""
    assert plan({}, ("redis-server", "--bind", "{address}")).apps[0].argv[-1] == "127.77.1.1"
