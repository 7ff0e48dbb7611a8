"""The door of `meshpy`: which commands there are, and what their failures mean to the shell.

A command is one line in `COMMANDS`: its name, `module:attribute` of its click command, and the line that
`meshpy --help` shows. The module is imported only when the command is called, so help stays fast.
A command prints through `meshpy.cli.output` and fails by raising:

| exit | means | raised as |
|---|---|---|
| 0 | fine | |
| 1 | findings, or denied | `sys.exit(1)` after printing them |
| 2 | wrong usage or bad input | `click.UsageError`, `MeshpyError`, `DocumentError`, no such file |
| 3 | could not run | `OSError`, or a `MeshpyError` of a class in `_COULD_NOT_RUN` |
| 130 | interrupted | Ctrl-C |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from meshpy.cli.groups import LazyGroup, Target
from meshpy.cli.output import asked_format, colours, print_error
from meshpy.errors import MeshpyError

__all__ = ["COMMANDS", "cli", "main"]


COMMANDS = {
    "demo": Target(
        "meshpy.cli.demo:demo", "Run the sample shop with its mesh on this machine, no Docker.", "Begin"
    ),
    "install": Target(
        "meshpy.cli.install:install", "Put the mesh network and control plane on this Swarm.", "Begin"
    ),
    "check": Target("meshpy.cli.check:check", "Look whether the Swarm and the mesh are well.", "Begin"),
    "inject": Target(
        "meshpy.cli.inject:inject", "Write a stack file with a sidecar for each service.", "Stacks"
    ),
    "uninject": Target("meshpy.cli.inject:uninject", "Give an injected stack file back as it was.", "Stacks"),
    "prepare": Target(
        "meshpy.cli.deploy:prepare", "Make the secrets and configs that a stack needs.", "Stacks"
    ),
    "deploy": Target("meshpy.cli.deploy:deploy", "Inject a stack file and deploy it.", "Stacks"),
    "policy": Target("meshpy.cli.policy:policy", "Explain and test policies, without a cluster.", "Policies"),
    "apply": Target("meshpy.cli.policies:apply", "Put policies in force.", "Policies"),
    "get": Target("meshpy.cli.policies:get", "List the policies in force.", "Policies"),
    "delete": Target("meshpy.cli.policies:delete", "Take one policy out of force.", "Policies"),
    "history": Target(
        "meshpy.cli.revisions:history", "List the revisions, and what each changed.", "Policies"
    ),
    "rollback": Target(
        "meshpy.cli.revisions:rollback", "Put an earlier revision in force again.", "Policies"
    ),
    "rollout": Target(
        "meshpy.cli.rollout:rollout", "Show, promote or abort the canary under way.", "Policies"
    ),
    "pin": Target("meshpy.cli.revisions:pin", "Keep a revision from being pruned.", "Policies"),
    "status": Target("meshpy.cli.policies:status", "Show services, sidecars and who calls whom.", "Traffic"),
    "describe": Target("meshpy.cli.describe:describe", "Show one service, whole.", "Traffic"),
    "stat": Target("meshpy.cli.traffic:stat", "Show requests, success and latency of services.", "Traffic"),
    "edges": Target("meshpy.cli.traffic:edges", "Show who calls whom, and whether by mTLS.", "Traffic"),
    "routes": Target("meshpy.cli.traffic:routes", "Show requests, success and latency of routes.", "Traffic"),
    "top": Target("meshpy.cli.traffic:top", "Show which paths are asked most.", "Traffic"),
    "tap": Target("meshpy.cli.requests:tap", "Show requests of the mesh as they end.", "Traffic"),
    "logs": Target("meshpy.cli.requests:logs", "Show the last requests of the mesh.", "Traffic"),
    "events": Target("meshpy.cli.events:events", "Show what was unusual in the traffic.", "Traffic"),
    "capture": Target(
        "meshpy.cli.capture:capture", "Write a sidecar's plaintext side for Wireshark.", "Traffic"
    ),
    "dashboard": Target("meshpy.cli.dashboard:dashboard", "Show the dashboard in a browser.", "Traffic"),
    "bench": Target(
        "meshpy.cli.bench:bench", "Measure a stack of yours with and without the mesh.", "Traffic"
    ),
    "proxy": Target(
        "meshpy.cli.proxy:proxy", "Show where sidecars stand, and what one decides by.", "The mesh"
    ),
    "ca": Target("meshpy.cli.ca:ca", "Look at the CA; revoke and restore identities.", "The mesh"),
    "token": Target("meshpy.cli.token:token", "Make, list and revoke tokens of operators.", "The mesh"),
    "join-token": Target(
        "meshpy.cli.join_token:join_token", "Make, list and revoke tokens of sidecars.", "The mesh"
    ),
    "upgrade": Target(
        "meshpy.cli.upgrade:upgrade", "Bring control plane and sidecars to this version.", "The mesh"
    ),
    "uninstall": Target(
        "meshpy.cli.uninstall:uninstall", "Take the control plane and the mesh network away.", "The mesh"
    ),
    "bug-report": Target(
        "meshpy.cli.bug_report:bug_report", "Gather what helps to find a fault, redacted.", "This tool"
    ),
    "plugin": Target("meshpy.cli.plugin:plugin", "Make `docker mesh …` out of this tool.", "This tool"),
    "completion": Target(
        "meshpy.cli.plugin:completion", "Print the completion script of a shell.", "This tool"
    ),
}

_COULD_NOT_RUN = frozenset({"ApiError", "DockerError"})
"""By name, as importing the classes would import their libraries."""


def _version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        click.echo(f"meshpy {version('swarm-meshpy')}")
        ctx.exit()


EXIT_CODES = (
    "Exit codes: 0 fine, 1 findings or denied, 2 wrong usage or bad input, 3 could not run, 130 interrupted."
)


@click.group(
    cls=LazyGroup,
    targets=COMMANDS,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
def cli() -> None:
    """The service mesh for Docker Swarm."""


def _exit_code(error: Exception) -> int:
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError) and error.filename:
        return 2  # a file that was named
    names = {parent.__name__ for parent in type(error).__mro__}
    return 3 if isinstance(error, OSError) or names & _COULD_NOT_RUN else 2


def run(args: Sequence[str], name: str = "meshpy") -> int:
    """Run one command line and return its exit code; `sys.exit` of a command passes through."""
    try:
        code = cli.main(args=list(args), prog_name=name, standalone_mode=False, color=colours())
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (click.ClickException, MeshpyError, OSError) as error:
        output = asked_format(args)
        print_error(error, output)
        if isinstance(error, click.UsageError) and error.ctx is not None and not output:
            click.echo(f"See `{error.ctx.command_path} --help`.", err=True)
        return _exit_code(error)
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The entry point `meshpy`."""
    sys.exit(run(sys.argv[1:]))
