"""`-o table|json|yaml` of every command: the three say the same, and a failure is told in the same form.

Every command is in one of the tables below. Those that need a Swarm are asked without one: their failure is
what a program reads.
"""

import asyncio
import io
import json
import shlex
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from certs.csr import csr_to_pem, make_csr
from certs.keys import generate_key
from certs.spiffe import SpiffeId
from meshpy.cli.main import cli, run
from tests.helpers.control_plane import ADMIN, API, DENY_ALL, WEB, plane
from tests.helpers.looked import answers, recent

ROOT = Path(__file__).parents[2]
SHOP = f"--stack {ROOT}/stacks/shop.yml"
BOTH = f"{SHOP} --policies {ROOT}/stacks/shop-policies"
OTHER = f"{ROOT}/docs/examples/candidate"
LOG = f"{ROOT}/docs/examples/access.log"

PRINTS_A_FILE = {
    "completion": "a script for a shell",
    "policy schema": "a JSON Schema, whose form is its own",
}
ON_FILES = {
    "inject": f"inject --stack shop {ROOT}/stacks/shop.yml",
    "uninject": "uninject injected.yml",
    "policy explain": f"policy explain {BOTH} web api GET /admin",
    "policy test": f"policy test {BOTH} {ROOT}/docs/examples/tests.yml",
    "policy lint": f"policy lint {BOTH}",
    "policy verify": f"policy verify {SHOP} --policies {OTHER} {ROOT}/docs/examples/invariants.txt",
    "policy diff": f"policy diff {SHOP} {ROOT}/stacks/shop-policies {OTHER}",
    "policy check": f"policy check {BOTH}",
    "policy replay": f"policy replay {SHOP} --policies {OTHER} {LOG}",
    "policy suggest": f"policy suggest {SHOP} --from {LOG} --requests 50",
    "policy unused": f"policy unused {BOTH} --days 1 {LOG}",
    "ca init": "ca init --trust-domain a.example FRESH",
    "ca sign": "ca sign mesh.csr --root ca/root.crt --root-key ca/root.key --trust-domain a.example",
    "plugin install": "plugin install",
    "plugin uninstall": "plugin uninstall",
}
ON_A_MESH = {
    "apply": "apply -f deny.yaml --no-wait",
    "get": "get",
    "policy blame": "policy blame -n shop web api:8080 GET /",
    "history": "history",
    "status": "status",
    "describe service": "describe service shop/api",
    "stat": "stat",
    "edges": "edges",
    "routes": "routes",
    "top": "top --once",
    "logs": "logs",
    "tap": "tap --for 1s --limit 1",
    "events": "events",
    "proxy status": "proxy status",
    "proxy config": "proxy config w1",
    "pin": "pin 1",
    "rollout": "rollout",
    "rollout promote": "rollout promote",
    "rollout abort": "rollout abort",
    "rollback": "rollback 1 --no-wait",
    "delete": "delete NetworkPolicy deny-all --namespace shop",
    "ca status": "ca status",
    "ca revoke": "ca revoke shop/api",
    "ca restore": "ca restore shop/api",
    "ca request": "ca request",
    "ca export": "ca export --passphrase-file phrase FRESH",
    "ca rotate": "ca rotate --dry-run",
    "ca import": "ca import --root ca/root.crt --chain ca/intermediate.crt",
    "token create": "token create --role viewer ci",
    "token list": "token list",
    "token revoke": "token revoke nobody",
    "join-token create": "join-token create shop/api",
    "join-token list": "join-token list",
    "join-token revoke": "join-token revoke --force nobody",
    "bug-report": "bug-report -f report.tar.gz",
    "capture": "capture shop/nobody -w api.pcapng --for 1s",
    "dashboard": "dashboard --port TAKEN",
}
ON_A_SWARM = {
    "install": "install",
    "check": "check --no-probe",
    "prepare": f"prepare -c {ROOT}/stacks/shop.yml shop",
    "deploy": f"deploy -c {ROOT}/stacks/shop.yml shop",
    "upgrade": "upgrade",
    "uninstall": "uninstall",
    "bench": f"bench {ROOT}/stacks/shop.yml --no-such",
    "demo": "demo no-such-stack.yml",
}
BEFORE = {
    "plugin uninstall": "plugin install",
    "delete": "apply -f deny.yaml --no-wait",
    "ca restore": "ca revoke shop/api",
}
REFUSED = {
    *("rollout", "rollout promote", "rollout abort", "ca import", "token revoke", "capture", "dashboard"),
}
"""What this mesh has nothing for."""
FORMS = ("table", "json", "yaml")


def leaves(group: click.Group, words: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command that does something, by its words."""
    context, found = click.Context(group), {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found[" ".join((*words, name))] = command
        if isinstance(command, click.Group):
            found |= leaves(command, (*words, name))
    return found


LEAVES = leaves(cli)


def test_every_command_is_tried_here():
    assert set(LEAVES) == {*PRINTS_A_FILE, *ON_FILES, *ON_A_MESH, *ON_A_SWARM}


@pytest.mark.parametrize("name", sorted(set(LEAVES) - set(PRINTS_A_FILE)))
def test_every_command_that_prints_a_result_offers_the_three_forms(name):
    (option,) = [each for each in LEAVES[name].params if "-o" in each.opts]
    assert "--output" in option.opts
    assert option.type.choices[:3] == FORMS
    assert option.default == "table"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands run: what they read, and a docker that is not there."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "PATH": str(tmp_path / "bin"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "MESHPY_CONTEXT": str(tmp_path / "context.json"),
        "DOCKER_HOST": f"unix://{tmp_path}/no.sock",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "phrase").write_text("a long enough phrase\n")
    (tmp_path / "deny.yaml").write_text(DENY_ALL)
    return tmp_path


def said(line: str, form: str, place: Path) -> tuple[int, str]:
    """Exit code and standard output of one command line; FRESH is a folder that is not there yet."""
    fresh = place / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    words = [str(fresh) if word == "FRESH" else word for word in shlex.split(line)]
    with CliRunner().isolation() as streams:
        try:
            code = run([*words, "-o", form])
        except SystemExit as end:
            code = int(str(end.code))
        return code, streams[0].getvalue().decode()


def said_after(name: str, line: str, form: str, place: Path) -> tuple[int, str]:
    """The same, after what has to be done before."""
    if name in BEFORE:
        said(BEFORE[name], form, place)
    return said(line, form, place)


def values(text: str, form: str) -> list[object]:
    """The values printed one after the other."""
    if form == "yaml":
        return list(YAML(typ="safe", pure=True).load_all(io.StringIO(text)))
    reader, found = json.JSONDecoder(), []
    while text := text.lstrip():
        value, end = reader.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def shape(value: object) -> object:
    """The keys of a value: figures and times move on between two looks."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__ if isinstance(value, str | bool) else "value"


@pytest.mark.parametrize("name", ON_FILES)
def test_what_is_printed_of_files_is_the_same_in_json_and_yaml(name, folder):
    """And the same twice: nothing in it depends on the clock or on the order of a set."""
    if name == "uninject":
        (folder / "injected.yml").write_text(said(ON_FILES["inject"], "table", folder)[1])
    if name == "ca sign":
        said("ca init --trust-domain a.example ca", "json", folder)
        own = SpiffeId("a.example", "/control-plane")
        (folder / "mesh.csr").write_text(csr_to_pem(make_csr(generate_key(), own)))
    printed: dict[str, list[tuple[int, str]]] = {}
    for form in (*FORMS, "json"):
        printed.setdefault(form, []).append(said_after(name, ON_FILES[name], form, folder))
    ((code, text),) = printed["table"]
    assert text.strip()
    assert {each for found in printed.values() for each, _ in found} == {code}
    first, second = (values(text, "json") for _, text in printed["json"])
    yaml = values(printed["yaml"][0][1], "yaml")
    assert first
    if name in ("ca init", "ca sign"):  # each makes a key, or signs with a new serial
        first, second, yaml = shape(first), shape(second), shape(yaml)
    assert first == second == yaml


async def test_what_is_printed_of_a_mesh_is_the_same_in_json_and_yaml(folder, monkeypatch):
    async with plane(folder) as mesh:
        monkeypatch.setenv("MESHPY_URL", mesh.operator)
        monkeypatch.setenv("MESHPY_TOKEN", ADMIN)
        web, api = await mesh.enrol(WEB, task="w1"), await mesh.enrol(API, task="a1")
        async with mesh.stream(web, task="w1") as caller, mesh.stream(api, task="a1") as callee:
            await caller.take()
            await callee.take()
            works = [
                asyncio.ensure_future(answers(caller, recent("outbound"))),
                asyncio.ensure_future(answers(callee, recent("inbound"))),
            ]
            taken = str(mesh.running.operator_port)
            for name, line in ON_A_MESH.items():
                words = line.replace("TAKEN", taken)
                printed = {
                    form: await asyncio.to_thread(said_after, name, words, form, folder) for form in FORMS
                }
                codes = {code for code, _ in printed.values()}
                assert len(codes) == 1, printed
                assert codes <= ({2, 3} if name in REFUSED else {0, 1}), printed
                json_, yaml = (values(printed[form][1], form) for form in ("json", "yaml"))
                assert shape(json_) == shape(yaml), name
                assert json_ or name in ("events", "tap"), name
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)


@pytest.mark.parametrize("name", ON_A_SWARM)
def test_without_a_swarm_the_failure_is_told_in_the_form_that_was_asked_for(name, folder):
    printed = {form: said(ON_A_SWARM[name], form, folder) for form in FORMS}
    assert {code for code, _ in printed.values()} < {1, 2, 3}
    ((json_,), (yaml,)) = (values(printed[form][1], form) for form in ("json", "yaml"))
    assert json_ == yaml
    assert ("success" if name == "check" else "error") in json_
