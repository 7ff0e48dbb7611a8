"""`meshpy.group`: peers of a cluster on a network of their own, each behind a sidecar for everybody else."""

import pytest

from meshpy.inject import uninject
from tests.helpers.stacks import HEAD, injected, model, problems, services

STACK = (
    HEAD
    + """  one:
    image: bitnami/etcd
    environment: {PEERS: "http://two:2380"}
    networks: {default: {aliases: [first]}}
    deploy: {labels: {meshpy.group: store}}
  two:
    image: bitnami/etcd
    environment: {PEERS: "http://one:2380"}
    deploy: {labels: {meshpy.group: store}}
  web:
    image: nginx
    environment: {STORE: "http://one:2379"}
"""
)


def test_members_meet_on_a_network_without_sidecars_and_others_go_through_them() -> None:
    found = services(STACK)
    assert found["one"]["networks"] == {
        "one-pod": {"aliases": ["first"]},
        "store-group": {"aliases": ["first"]},
    }
    assert found["two"]["networks"] == ["two-pod", "store-group"]
    sidecar = found["one-sidecar"]["networks"]
    assert "store-group" not in sidecar
    assert "two" not in sidecar["one-pod"]["aliases"]
    assert "web" in sidecar["one-pod"]["aliases"]
    assert {"one", "two", "first"} <= set(found["web-sidecar"]["networks"]["web-pod"]["aliases"]) | set(
        (found["web-sidecar"]["networks"].get("web-pod2") or {"aliases": []})["aliases"]
    )
    network = model(injected(STACK).text)["networks"]["store-group"]
    assert network == {"driver": "overlay", "internal": True, "driver_opts": {"encrypted": "true"}}
    assert uninject(injected(STACK).text) == STACK
    assert any("past sidecars" in note for note in injected(STACK).report.notes)


def test_a_cluster_without_the_word_stays_outside_and_is_told_it() -> None:
    report = injected(STACK.replace("deploy: {labels: {meshpy.group: store}}", "init: true")).report
    assert set(report.exempt) == {"one", "two"}
    assert any('meshpy.group: "one-cluster" on each' in note for note in report.notes)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{meshpy.group: store}}\n  two", "{}}\n  two", "no other service on its networks is in the group"),
        (
            "{meshpy.group: store}}\n  web",
            '{meshpy.group: store, meshpy.enable: "false"}}\n  web',
            "stays outside",
        ),
        ("meshpy.group: store", "meshpy.group: a/b", "'a/b' is no name for a group"),
    ],
)
def test_a_group_that_cannot_be_is_refused(old: str, new: str, says: str) -> None:
    assert any(says in problem.what for problem in problems(STACK.replace(old, new)))


def test_the_networks_name_must_be_free() -> None:
    text = STACK + "networks: {store-group: {}}\n"
    assert any("needs that name" in problem.what for problem in problems(text))
