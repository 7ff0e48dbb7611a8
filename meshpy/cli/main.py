"""The door of `meshpy`: which commands there are, and what their failures mean to the shell.

A command is one line in `COMMANDS`: its name, `module:attribute` of its click command, and the line that
`meshpy --help` shows. The module is imported only when the command is called, so help stays fast.
A command prints through `meshpy.cli.output` and fails by raising:

| exit | means | raised as |
|---|---|---|
| 0 | fine | |
| 1 | findings, or denied | `sys.exit(1)` after printing them |
| 2 | wrong usage or bad input | `click.UsageError`, `MeshpyError`, `DocumentError` |
| 3 | could not run | `OSError`, or a `MeshpyError` of a class in `_COULD_NOT_RUN` |
| 130 | interrupted | Ctrl-C |
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import click

from meshpy.cli.output import print_error, wants_json
from meshpy.errors import MeshpyError

__all__ = ["COMMANDS", "LazyGroup", "Target", "cli", "main"]


class Target(NamedTuple):
    """Where a command is, and its line in the help."""

    path: str
    help: str


COMMANDS = {
    "inject": Target("meshpy.cli.inject:inject", "Write a stack file with a sidecar for each service."),
    "uninject": Target("meshpy.cli.inject:uninject", "Give an injected stack file back as it was."),
    "install": Target("meshpy.cli.install:install", "Put the mesh network and control plane on this Swarm."),
    "upgrade": Target("meshpy.cli.upgrade:upgrade", "Bring control plane and sidecars to this version."),
    "uninstall": Target(
        "meshpy.cli.uninstall:uninstall", "Take the control plane and the mesh network away."
    ),
    "check": Target("meshpy.cli.check:check", "Look whether the Swarm and the mesh are well."),
    "prepare": Target("meshpy.cli.deploy:prepare", "Make the secrets and configs that a stack needs."),
    "deploy": Target("meshpy.cli.deploy:deploy", "Inject a stack file and deploy it."),
    "demo": Target("meshpy.cli.demo:demo", "Run the sample shop with its mesh on this machine, no Docker."),
    "apply": Target("meshpy.cli.policies:apply", "Put policies in force."),
    "get": Target("meshpy.cli.policies:get", "List the policies in force."),
    "delete": Target("meshpy.cli.policies:delete", "Take one policy out of force."),
    "history": Target("meshpy.cli.revisions:history", "List the revisions, and what each changed."),
    "pin": Target("meshpy.cli.revisions:pin", "Keep a revision from being pruned."),
    "rollback": Target("meshpy.cli.revisions:rollback", "Put an earlier revision in force again."),
    "rollout": Target("meshpy.cli.rollout:rollout", "Show, promote or abort the canary under way."),
    "ca": Target("meshpy.cli.ca:ca", "Look at the CA; revoke and restore identities."),
    "join-token": Target("meshpy.cli.join_token:join_token", "Make, list and revoke tokens of sidecars."),
    "describe": Target("meshpy.cli.describe:describe", "Show one service, whole."),
    "stat": Target("meshpy.cli.traffic:stat", "Show requests, success and latency of services."),
    "edges": Target("meshpy.cli.traffic:edges", "Show who calls whom, and whether by mTLS."),
    "routes": Target("meshpy.cli.traffic:routes", "Show requests, success and latency of routes."),
    "top": Target("meshpy.cli.traffic:top", "Show which paths are asked most."),
    "tap": Target("meshpy.cli.requests:tap", "Show requests of the mesh as they end."),
    "logs": Target("meshpy.cli.requests:logs", "Show the last requests of the mesh."),
    "capture": Target("meshpy.cli.capture:capture", "Write a sidecar's plaintext side for Wireshark."),
    "events": Target("meshpy.cli.events:events", "Show what was unusual in the traffic."),
    "proxy": Target("meshpy.cli.proxy:proxy", "Show where sidecars stand, and what one decides by."),
    "token": Target("meshpy.cli.token:token", "Make, list and revoke tokens of operators."),
    "dashboard": Target("meshpy.cli.dashboard:dashboard", "Show the dashboard in a browser."),
    "bench": Target("meshpy.cli.bench:bench", "Measure a stack of yours with and without the mesh."),
    "bug-report": Target("meshpy.cli.bug_report:bug_report", "Gather what helps to find a fault, redacted."),
    "plugin": Target("meshpy.cli.plugin:plugin", "Make `docker mesh …` out of this tool."),
    "completion": Target("meshpy.cli.plugin:completion", "Print the completion script of a shell."),
    "status": Target("meshpy.cli.policies:status", "Show services, sidecars and who calls whom."),
    "policy": Target("meshpy.cli.policy:policy", "Explain and test policies, without a cluster."),
}

_COULD_NOT_RUN = frozenset({"ApiError", "DockerError"})
"""By name, as importing the classes would import their libraries."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def __init__(self, *args: object, targets: dict[str, Target], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own arguments, passed on
        self.targets = targets

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        target = self.targets.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.path.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.targets and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.targets, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else f" There are: {', '.join(self.targets)}."
            raise click.UsageError(f"No such command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, target.help) for name, target in self.targets.items()])


def _version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        click.echo(f"meshpy {version('swarm-meshpy')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    targets=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
def cli() -> None:
    """The service mesh for Docker Swarm."""


def _exit_code(error: Exception) -> int:
    names = {parent.__name__ for parent in type(error).__mro__}
    return 3 if isinstance(error, OSError) or names & _COULD_NOT_RUN else 2


def run(args: Sequence[str], name: str = "meshpy") -> int:
    """Run one command line and return its exit code; `sys.exit` of a command passes through."""
    try:
        code = cli.main(args=list(args), prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (click.ClickException, MeshpyError, OSError) as error:
        as_json = wants_json(args)
        print_error(error, as_json=as_json)
        if isinstance(error, click.UsageError) and error.ctx is not None and not as_json:
            click.echo(f"See `{error.ctx.command_path} --help`.", err=True)
        return _exit_code(error)
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The entry point `meshpy`."""
    sys.exit(run(sys.argv[1:]))
