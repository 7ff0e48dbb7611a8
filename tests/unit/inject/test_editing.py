"""Only what must change is changed, and all of it can be undone."""

import pytest

from meshpy.errors import DocumentError
from meshpy.inject import inject, uninject
from tests.helpers.stacks import HEAD, injected, model, services

FULL = """\
# top comment
version: '3.8'   # quoted so

x-log: &log
  logging: {driver: json-file}

services:

  # the web
  web:
    <<: *log
    image:   nginx:1.25   # spaces stay
    environment:
      - PASS=$$2y$$05$${x}
      - "URL=${URL:-http://api:8080}"
    ports:
      # a comment that goes with its key
      - 80:80
    command: >
      folded
      text

  api:
    image: 'acme/api'
    labels: {meshpy.ports: 8080/http}
    deploy:
      labels:
        traefik.enable: "true"
      replicas: ${N:-2}

# before volumes
volumes:
  data: {}   # last
"""

VARIANTS = {
    "as it is": FULL,
    "windows line ends": FULL.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + FULL,
    "no newline at the end": FULL.rstrip("\n"),
    "many newlines at the end": FULL + "\n\n\n",
    "document markers": "---\n" + FULL + "...\n",
    "a comment at the end": FULL + "# end",
    "root in flow style": '{"version": "3.8", "services": {"a": {"image": "redis", "ports": ["1:1"]}}}',
    "services in flow style": 'version: "3.8"\nservices: {a: {image: redis}, b: {image: redis,}, }\n',
    "service in flow style": HEAD + "  a: {image: redis, ports: ['1:1'], networks: [n]}\nnetworks: {n: }\n",
    "json": '{\n\t"services": {\n\t\t"a": {"image": "redis"}\n\t}\n}',
    "alias as service": HEAD + "  a: &a {image: redis, ports: ['1:1']}\n  b: *a\n",
    "merged service": HEAD
    + "  a: &a\n    image: redis\n    ports: ['1:1']\n    networks: [n]\n  b:\n    <<: *a\n"
    "networks:\n  n:\n",
    "anchors inside what goes": HEAD
    + "  a:\n    image: redis\n    ports: &p ['1:1']\n    networks: &n\n      - x\n"
    "  b:\n    image: docker\n    volumes: [/var/run/docker.sock:/s]\n    networks: *n\n    ports: *p\n"
    "networks:\n  x:\n",
    "merged deploy": "x-d: &d\n  replicas: 3\n  labels: {traefik.enable: 'true', a: b}\n"
    + HEAD
    + "  a:\n    image: nginx\n    deploy:\n      <<: *d\n      mode: replicated\n"
    "  b:\n    image: nginx\n    deploy: *d\n",
    "exempt heir of a meshed service": HEAD
    + "  a: &a\n    image: redis\n    ports: ['1:1']\n  b:\n    <<: *a\n"
    "    ports: ['2:2']\n    labels: {meshpy.enable: 'false'}\n",
    "null sections": HEAD + "  a:\n    image: redis\n    deploy:\nnetworks: {}\n",
    "block scalar last": HEAD + "  a:\n    image: redis\n    command: |\n      x\n\n      y\n\n\n",
    "quoted keys": '"services":\n  "a":\n    "image": redis\n    "ports":\n    - "1:1"\n',
    "list at the key's column": HEAD + "  a:\n    image: redis\n    ports:\n    - 1:1\n    # c\n"
    "    - 2:2\n    tty: true\n",
    "deep indentation": "services:\n      a:\n            image: redis\n"
    "            ports:\n              - 1:1\n",
    "non-ASCII": HEAD + "  a:\n    image: redis\n    environment: {GRUSS: 'Grüße, 世界 🐳'}  # größer\n",
}


@pytest.mark.parametrize("name", VARIANTS)
def test_injection_is_idempotent_and_can_be_undone_byte_for_byte(name: str) -> None:
    text = VARIANTS[name]
    once = injected(text).text
    assert injected(once).text == once
    assert uninject(once) == text


@pytest.mark.parametrize("name", VARIANTS)
def test_every_app_ends_up_on_its_pod_network_without_ports(name: str) -> None:
    before, after = model(VARIANTS[name])["services"], services(VARIANTS[name])
    for key, service in before.items():
        if f"{key}-sidecar" in after:
            assert after[key]["networks"] == [f"{key}-pod"]
            assert not after[key].get("ports")
            changed = ("networks", "ports", "deploy")
        else:
            changed = ("deploy",)
        rest = {k: v for k, v in service.items() if k not in changed}
        # An empty list overrides what `<<` brings; docker takes it for a key that is not there.
        assert {k: v for k, v in after[key].items() if k not in changed and v != []} == rest


def test_the_lines_that_go_are_those_of_the_moved_keys() -> None:
    after = injected(FULL).text.splitlines()
    gone = [line for line in FULL.splitlines() if line not in after]
    assert gone == [
        "    ports:",
        "      # a comment that goes with its key",
        "      - 80:80",
    ] or gone == [
        "      # a comment that goes with its key",
        "      - 80:80",
        '        traefik.enable: "true"',
    ]
    position = [after.index(line) for line in ("# top comment", "  # the web", "# before volumes")]
    assert position == sorted(position)


def test_line_ends_of_the_file_are_used_for_what_is_written() -> None:
    text = injected(VARIANTS["windows line ends"]).text
    assert text.count("\n") == text.count("\r\n")


def test_an_edited_result_is_refused_with_the_place_of_the_edit() -> None:
    text = injected(FULL).text.replace("image:   nginx:1.25", "image: nginx:1.27")
    for action in (lambda: uninject(text, "m.yml"), lambda: inject(text, stack="shop", file="m.yml")):
        with pytest.raises(DocumentError) as caught:
            action()
        (problem,) = caught.value.problems
        assert problem.place.key == "services.web.image"
        assert problem.place.line == text[: text.index("nginx:1.27")].count("\n") + 1


def test_a_file_that_was_never_injected_cannot_be_restored() -> None:
    with pytest.raises(DocumentError, match="not written by"):
        uninject(FULL)


@pytest.mark.parametrize("old", ["sha256: ", "  format: 1", "    - "])
def test_a_damaged_original_is_told(old: str) -> None:
    head, _, tail = injected(FULL).text.partition("x-meshpy:")
    with pytest.raises(DocumentError, match="damaged"):
        uninject(head + "x-meshpy:" + tail.replace(old, old + "9", 1))


def test_another_stack_name_and_other_options_rewrite_the_original() -> None:
    first = injected(FULL).text
    second = inject(first, stack="other").text
    assert second == inject(FULL, stack="other").text
    assert "shop_" not in second.partition("x-meshpy:")[0]
    assert inject(first, stack="other", file="-").text == second
