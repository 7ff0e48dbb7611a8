"""`docker mesh …` as the docker CLI calls it; where there is a docker CLI, through it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

ENTRY = "from meshpy.cli.plugin import main; main()"
INSTALL = [sys.executable, "-c", "from meshpy.cli.main import main; main()", "plugin", "install", "--hooks"]
DOCKER = shutil.which("docker")
needs_docker = pytest.mark.skipif(DOCKER is None, reason="no docker CLI")


def plugin(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-c", ENTRY, *words], env)


def _run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env}
    )


@pytest.fixture
def installed(tmp_path):
    """A docker configuration of its own with the plugin in it; the entry point stands beside Python."""
    entry = tmp_path / "bin" / "meshpy-docker-plugin"
    entry.parent.mkdir()
    entry.write_text(f"#!{sys.executable}\n{ENTRY}\n")
    entry.chmod(0o755)
    env = {"DOCKER_CONFIG": str(tmp_path / "docker"), "PATH": f"{entry.parent}:{os.environ['PATH']}"}
    env["PYTHONPATH"] = os.getcwd()
    done = _run(
        [sys.executable, "-c", "from meshpy.cli.main import main; main()", "plugin", "install", "--hooks"],
        env,
    )
    assert done.returncode == 0, done.stderr
    return env


def test_metadata_is_what_every_cli_accepts(installed):
    script = f"{installed['DOCKER_CONFIG']}/cli-plugins/docker-mesh"
    asked = _run([script, "docker-cli-plugin-metadata"], {"PATH": "/usr/bin:/bin"})
    assert json.loads(asked.stdout) == json.loads(plugin("docker-cli-plugin-metadata").stdout)
    assert json.loads(asked.stdout)["SchemaVersion"] == "0.1.0"
    assert json.loads(asked.stdout)["Vendor"]


def test_options_of_docker_stand_before_ours():
    words = ("--context", "default", "-D", "--host=unix:///nowhere.sock", "mesh", "history", "-o", "json")
    done = plugin(*words, MESHPY_URL="http://127.0.0.1:9", MESHPY_CONTEXT="/nonexistent")
    assert done.returncode == 3
    assert "no control plane at http://127.0.0.1:9" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("words", [("mesh", "--help"), ("help", "mesh"), ("mesh",)])
def test_help_names_the_command_as_the_user_types_it(words):
    done = plugin(*words)
    assert "Usage: docker mesh [OPTIONS] COMMAND" in done.stdout + done.stderr


def test_completion_answers_values_with_their_help_and_no_files():
    lines = plugin("__complete", "mesh", "rol").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines[:-1]] == ["rollback", "rollout"]
    assert lines[-1] == ":4"
    assert "--stack\t" in plugin("__complete", "mesh", "inject", "--sta").stdout


def test_a_hook_hints_after_a_deploy_that_went_well():
    def hint(**asked: str) -> str:
        return json.loads(plugin("mesh", "docker-cli-plugin-hooks", json.dumps(asked)).stdout)["Template"]

    assert "docker mesh status" in hint(RootCmd="stack deploy", CommandError="")
    assert hint(RootCmd="stack deploy", CommandError="no") == ""
    assert hint(RootCmd="ps") == ""


def test_installing_keeps_what_the_configuration_held(tmp_path, installed):
    file = tmp_path / "docker" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "auths": {"example.com": {"auth": "eA=="}}}))
    assert _run(INSTALL, installed).returncode == 0
    assert json.loads(file.read_text())["auths"] == {"example.com": {"auth": "eA=="}}
    file.write_text("{")
    assert _run(INSTALL, installed).returncode == 2
    assert file.read_text() == "{"


@needs_docker
def test_the_docker_cli_takes_the_plugin_runs_it_and_passes_its_exit_code_on(installed):
    assert DOCKER is not None
    assert "Usage: docker mesh" in _run([DOCKER, "mesh", "--help"], installed).stdout
    wrong = _run([DOCKER, "mesh", "statsu"], installed)
    assert wrong.returncode == 2
    assert "Did you mean `status`?" in wrong.stderr
    assert "inject\t" in _run([DOCKER, "__complete", "mesh", "inj"], installed).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(shell):
    code = "from meshpy.cli.main import main; main()"
    done = _run([sys.executable, "-c", code, "completion", shell], {})
    assert done.returncode == 0
    assert "_MESHPY_COMPLETE" in done.stdout
