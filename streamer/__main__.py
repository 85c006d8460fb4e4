"""The command line: finds the command, and turns an outcome into an exit code."""

from __future__ import annotations

import importlib

import click

from streamer.config.sources import ConfigError
from streamer.log import Fenced, LogError, Misconfigured, PermanentError, TopicMissing, Unavailable
from streamer.text.escape import visible

COMMANDS = {  # in the order in which one meets them; each in streamer/cli/<name>.py
    "demo": "demo_command",
    "run": "run_command",
    "feed": "feed_command",
    "tail": "tail_command",
    "topics": "topics_command",
    "alerts": "alerts_command",
    "generations": "generations_command",
    "check": "check_command",
    "inspect": "inspect_command",
    "explain": "explain_command",
    "size": "size_command",
    "backtest": "backtest_command",
    "pretrain": "pretrain_command",
    "bench": "bench_command",
    "version": "version_command",
}
EXIT_CODES: dict[
    type[Exception], int
] = {  # those of sysexits.h: a service unit can distinguish them
    ConfigError: 78,
    Misconfigured: 78,  # before PermanentError, of which it is one
    PermanentError: 77,
    Fenced: 75,
    TopicMissing: 72,
    Unavailable: 69,
    LogError: 69,
}


class Commands(click.Group):
    """A group whose commands are imported when they are asked for: torch takes seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """The command of that name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"streamer.cli.{cmd_name}")
        command: click.Command = getattr(module, COMMANDS[cmd_name])
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what it can't mend becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = "\n".join(map(visible, error.message.split("\n")))  # type: ignore[misc]  # it repeats what was typed
            raise
        except tuple(EXIT_CODES) as error:
            click.echo(f"streamer: {visible(error)}", err=True)
            kinds = (kind for kind in EXIT_CODES if isinstance(error, kind))
            ctx.exit(EXIT_CODES[next(kinds)])


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="streamer")
def cli() -> None:
    """
    Forecast traffic, flow by flow, from the counters that pass on a log.

    Counters come in through Kafka, or through one SQLite file; forecasts of the
    next steps go out, each exactly once. See it work on this
    machine with `streamer demo`.
    """


def main() -> None:
    """Where the `streamer` script begins."""
    cli(prog_name="streamer")


if __name__ == "__main__":
    main()
