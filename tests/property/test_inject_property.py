"""Any stack is injected idempotently and restored byte for byte, or refused."""

import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshpy.errors import DocumentError
from meshpy.inject import InjectOptions, inject, inventory_of_stack, uninject
from meshpy.inject.emit import block, flow
from meshpy.inject.stackfile import StackFile

WORDS = st.sampled_from(
    ["a", "web-1", "db_x", "yes", "on", "010", "1e3", "22:22", "null", "$$x", "${V:-1}", "ü"]
)
SCALARS = st.one_of(
    WORDS, st.integers(-5, 70000), st.booleans(), st.text(st.characters(codec="utf-8"), max_size=8)
)
VALUES = st.recursive(
    st.one_of(SCALARS, st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
SHORT_PORTS = [
    "80:80",
    "9000",
    "8000-8001:90-91",
    "7000-7002:95",
    "3000-3005",
    "53:53/udp",
    "132:132/sctp",
    "${P:-1}:81",
    "127.0.0.1:5:82",
    "[::1]:6:83",
]
LONG_PORT = {"target": 84, "published": 8484, "protocol": "tcp", "mode": "host"}
ROOTS = [
    "  six: {driver: overlay, ipam: {config: [{subnet: 'fd00:7::/64'}, {subnet: 10.77.0.0/24}]}}",
    "configs:",
    "  page: {file: ./page.tmpl, template_driver: golang, name: 'page-${V:-1}'}",
    "secrets:",
    "  key: {file: ./key.tmpl, template_driver: golang}",
]
PORTS = st.lists(
    st.sampled_from(SHORT_PORTS),
    max_size=2,
    unique=True,
)
NAMES = ["web", "api", "db_1", "c-v1"]
NETWORKS = ["front", "back", "default", "out"]


@st.composite
def stacks(draw: st.DrawFn) -> str:
    lines = ["services:"]
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)):
        service: dict[str, Any] = {"image": draw(st.sampled_from(["nginx", "postgres:16", "acme/x"]))}
        if nets := draw(st.lists(st.sampled_from(NETWORKS), max_size=3, unique=True)):
            service["networks"] = draw(
                st.sampled_from([nets, dict.fromkeys(nets), {n: {"aliases": ["z"]} for n in nets}])
            )
        if ports := [*draw(PORTS), *draw(st.sampled_from([[], [LONG_PORT]]))]:
            service["ports"] = ports
        if environment := draw(st.dictionaries(st.sampled_from(["A", "B"]), WORDS, max_size=2)):
            service["environment"] = environment
        labels = draw(
            st.dictionaries(st.sampled_from(["traefik.x", "team", "caddy", "x"]), WORDS, max_size=3)
        )
        if labels:
            as_list = [f"{key}={value}" for key, value in labels.items()]
            service["deploy"] = {
                "labels": draw(st.sampled_from([labels, as_list])),
                "replicas": draw(st.integers(0, 3)),
            }
        if draw(st.booleans()):
            service["volumes"] = ["/var/run/docker.sock:/s"]
        if mode := draw(st.sampled_from(["", "global", "replicated-job", "global-job"])):
            service.setdefault("deploy", {}).pop("replicas", None)
            service["deploy"]["mode"] = mode
        keys = draw(st.permutations(list(service)))
        ordered = {key: service[key] for key in keys}
        if draw(st.booleans()):
            lines += block(name, ordered, draw(st.just(2)))
        else:
            lines.append(f"  {name}: {flow(ordered)}")
        if draw(st.booleans()):
            lines.append(draw(st.sampled_from(["", "  # comment", "# comment"])))
    lines += ["networks:", "  front:", "  back: {internal: true}", "  out: {external: true}"]
    lines += draw(st.sampled_from([[], ROOTS]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return draw(st.sampled_from(["", "\ufeff"])) + newline.join(lines) + draw(st.sampled_from(["", newline]))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stacks())
def test_inject_twice_is_inject_once_and_uninject_is_its_inverse(text: str) -> None:
    options = InjectOptions(assume=dict.fromkeys(StackFile.parse(text).value["services"], "8080/http"))
    once = inject(text, stack="s", options=options)
    assert inject(once.text, stack="s", options=options).text == once.text
    assert uninject(once.text) == text
    inventory = inventory_of_stack(text, "s", options=options)
    assert {str(name) for name, service in inventory.services.items() if service.exempt} == {
        f"s/{name}" for name in once.report.exempt
    }


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker CLI")
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stacks(), st.booleans())
def test_what_docker_accepts_it_accepts_when_injected(text: str, permissive: bool) -> None:
    if _refused(text):
        return
    services = StackFile.parse(text).value["services"]
    options = InjectOptions(assume=dict.fromkeys(services, "8080/http"), permissive=permissive)
    assert _refused(inject(text, stack="s", options=options).text) == ""


def _refused(text: str) -> str:
    """Why `docker stack config` refuses a stack, "" when it does not."""
    command = ["docker", "stack", "config", "-c", "-"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=30, check=False)
    return done.stderr.decode() if done.returncode else ""


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), VALUES, min_size=1, max_size=3
    )
)
def test_what_is_written_is_read_back_as_the_same_values(value: dict[str, Any]) -> None:
    for text in ("\n".join(line for k, v in value.items() for line in block(k, v, 0)), flow(value)):
        assert StackFile.parse(text + "\n").value == value


@settings(max_examples=150)
@given(st.text("ab:-{}[]&*!|>'\"#,\n \t$%@`?<>=0.\\", max_size=60))
def test_no_text_breaks_the_injector(text: str) -> None:
    try:
        done = inject(text, stack="s")
    except DocumentError:
        return
    assert uninject(done.text) == text
