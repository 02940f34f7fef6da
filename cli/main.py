"""The `sparsify` command: finds the subcommand, and turns errors into sentences and exit codes."""

from __future__ import annotations

import importlib
import os
import threading
import traceback
from dataclasses import dataclass
from typing import Any

import click

from sparsify.cli.display import print_on_any_console
from sparsify.cli.options import debug_option, debugging
from sparsify.errors import FailedElsewhereError, SparsifyError, did_you_mean
from sparsify.interruption import listen

BAD_INPUT = 2
INTERRUPTED = 130  # what a shell reports of a program ended by Ctrl-C


@dataclass(frozen=True)
class LazyCommand:
    """Where a command lives, and the first line of its help, known without importing it."""

    target: str
    help: str


COMMANDS = {
    "data": LazyCommand(
        "sparsify.cli.commands.data:data_command", "Scan and check speech for training."
    ),
    "train": LazyCommand(
        "sparsify.cli.commands.train:train_command",
        "Train a speaker model to an exact sparsity.",
    ),
    "inspect": LazyCommand(
        "sparsify.cli.commands.inspect:inspect_command",
        "Show where a model is sparse, layer by layer.",
    ),
    "export": LazyCommand(
        "sparsify.cli.commands.export:export_command",
        "Write a deployable file and prove it equal to the model.",
    ),
    "benchmark": LazyCommand(
        "sparsify.cli.commands.benchmark:benchmark_command",
        "Measure how fast models are beside their dense twins.",
    ),
    "plan": LazyCommand(
        "sparsify.cli.commands.plan:plan_command",
        "Find the sparsity at which a model fits a budget.",
    ),
    "evaluate": LazyCommand(
        "sparsify.cli.commands.evaluate:evaluate_command", "Measure EER and minDCF on a trial list."
    ),
    "embed": LazyCommand(
        "sparsify.cli.commands.embed:embed_command", "Write the speaker embeddings of utterances."
    ),
    "verify": LazyCommand(
        "sparsify.cli.commands.verify:verify_command",
        "Score two recordings and say whether the speaker is the same.",
    ),
    "compare": LazyCommand(
        "sparsify.cli.commands.compare:compare_command",
        "Train methods side by side, evaluate them and report.",
    ),
    "report": LazyCommand(
        "sparsify.cli.commands.report:report_command",
        "Write one page, or one table, about finished runs.",
    ),
    "completion": LazyCommand(
        "sparsify.cli.commands.completion:completion_command",
        "Print the script that makes TAB complete.",
    ),
}


class BadInputError(click.ClickException):
    """A `SparsifyError` or an error of the operating system, as the command line shows it."""

    exit_code = BAD_INPUT


class LazyGroup(click.Group):
    """A group that imports a command, and with it torch, when that is run or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the work they do."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        # Read when torch loads. Threads that wait for each other then sleep instead of spinning: as
        # fast on idle cores (the loader takes its share of them), and 1.6 times as fast beside
        # another busy process.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        module_name, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module_name), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, or suggests the one that was probably meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"No such command '{name}', {did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs the command line."""
        print_on_any_console()
        if threading.current_thread() is threading.main_thread():
            listen()
        try:
            return super().main(*args, **extra)
        except OSError as error:  # of help, which nothing invokes
            click.echo(f"Error: {_sentence(error)}", err=True)
            raise SystemExit(BAD_INPUT) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; what the user can mend becomes a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            click.echo("Interrupted.", err=True)
            raise SystemExit(INTERRUPTED) from error
        except FailedElsewhereError as error:
            if debugging():
                traceback.print_exc()
            raise SystemExit(BAD_INPUT) from error
        except (SparsifyError, OSError) as error:
            if debugging():
                traceback.print_exc()
            raise BadInputError(_sentence(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if _ran_out_of_memory(error):
                raise BadInputError(
                    f"memory ran out ({_first_line(error)}): use a machine with more, or less of"
                    " everything, such as --set training.batch_size=…"
                ) from error
            # What nobody foresaw is one sentence, too, and says that it is a defect.
            if debugging():
                traceback.print_exc()
            raise BadInputError(
                f"unforeseen {type(error).__name__}: {_sentence(error)}"
                " (a defect of sparsify; --debug shows where)"
            ) from error


def _ran_out_of_memory(error: Exception) -> bool:
    """PyTorch says so in a `RuntimeError`."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


def _sentence(error: Exception) -> str:
    """What an error says, in one line of bounded length."""
    if isinstance(error, OSError) and error.strerror:
        subject = f"'{error.filename}': " if error.filename else ""
        return str(SparsifyError(f"{subject}{error.strerror.lower()}"))
    return str(SparsifyError(str(error)))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
    Example:
      sparsify train --recipe quickstart --target-sparsity 0.9 --output run
      sparsify inspect run
    """,
)
@click.version_option(package_name="sparsify-speaker", prog_name="sparsify")
@debug_option
def main() -> None:
    """Compress speaker-verification models to an exact sparsity, and prove it."""
