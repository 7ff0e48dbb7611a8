"""Keys that docker refuses are refused with place and remedy; keys that it takes are taken."""

import pytest

from tests.helpers.stacks import HEAD, injected, problems


@pytest.mark.parametrize(
    ("body", "line", "key", "instead"),
    [
        ("  a:\n    image: x\n    hotsname: y\n", 5, "services.a.hotsname", "did you mean `hostname`?"),
        ("  a:\n    image: x\n    mem_limit: 1g\n", 5, "services.a.mem_limit", "deploy.resources"),
        ("  a:\n    image: x\n    profiles: [p]\n", 5, "services.a.profiles", "no profiles"),
        (
            "  a:\n    image: x\n    deploy:\n      replicsa: 2\n",
            6,
            "services.a.deploy.replicsa",
            "`replicas`",
        ),
        ("  a:\n    image: x\n    depends_on: {b: {}}\n", 5, "services.a.depends_on", ""),
        ("  a:\n    image: x\n    ports: 80\n", 5, "services.a.ports", ""),
        ("  a:\n    image: x\n    ports: [{target: 80, host: 1}]\n", 5, "services.a.ports[0].host", ""),
        ("  a:\n    build: .\nnetworks:\n  n:\n    nmae: x\n", 7, "networks.n.nmae", "`name`"),
        ("  a: {image: redis}\nnetworks:\n", 4, "networks", "remove it"),
        ("  a: {}\n", 3, "services.a", "write `image"),
        ("  a:\n    image: x\n    networks: [nowhere]\n", 5, "services.a.networks", "define it"),
    ],
)
def test_a_wrong_key_is_named_with_its_place(body: str, line: int, key: str, instead: str) -> None:
    found = problems(HEAD + body)
    assert [(p.place.line, p.place.key) for p in found] == [(line, key)]
    assert instead in found[0].instead


def test_every_problem_of_a_file_is_told_at_once() -> None:
    found = problems(HEAD + "  a:\n    image: x\n    foo: 1\n  b:\n    image: x\n    bar: 1\n")
    assert [p.place.line for p in found] == [5, 8]


@pytest.mark.parametrize(("version", "line"), [("2.1", 1), ("3.99", 1), ("latest", 1)])
def test_versions_that_docker_stack_does_not_read(version: str, line: int) -> None:
    assert problems(f'version: "{version}"\nservices:\n  a: {{image: x}}\n')[0].place.line == line


def test_keys_newer_than_the_version_of_the_file_are_refused() -> None:
    found = problems('version: "3.2"\nx-a: 1\nservices:\n  a:\n    image: redis\n    init: true\n')
    assert [(p.place.line, p.instead) for p in found] == [
        (2, 'write version: "3.8"'),
        (6, 'write version: "3.8"'),
    ]


def test_keys_that_docker_ignores_stay_in_the_file() -> None:
    text = (
        HEAD
        + "  a:\n    image: redis\n    container_name: c  # kept\n    restart: always\n    depends_on: [b]\n"
    )
    text += "  b: {image: redis}\n"
    assert "    container_name: c  # kept\n    restart: always\n    depends_on: [b]\n" in injected(text).text


def test_a_file_too_old_for_what_is_written_gets_a_newer_version() -> None:
    assert injected('version: "3.0"\nservices:\n  a: {image: redis}\n').text.startswith('version: "3.8"\n')
    assert injected("services:\n  a: {image: redis}\n").text.startswith("services:\n")
