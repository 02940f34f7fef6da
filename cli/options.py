"""Options that several commands have.

Those that describe a recipe are in `sparsify.cli.recipe_options`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from sparsify.artifact.formats import (
    SINGLE,
    about_formats,
    about_precisions,
    kinds_of_models,
    precisions,
    written,
)
from sparsify.cli.display import configure_logging, console, json_alone
from sparsify.cli.types import PATH, ByteCount, Existing, Model, Name, Number, Share
from sparsify.training.devices import Device

if TYPE_CHECKING:
    from sparsify.comparison.gates import Gate
    from sparsify.recipe.words import LabelPlace

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_MODEL = Model()

path_argument = click.argument("path", type=_MODEL)
paths_argument = click.argument("paths", type=_MODEL, nargs=-1, required=True, metavar="PATH...")
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the runtime; its default if unset."
)
device_option = click.option(
    "--device", type=click.Choice(get_args(Device)), default="auto", show_default=True
)
trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Import and run the code that the file names as its network (module:factory).",
)
strict_option = click.option(
    "--strict", is_flag=True, help="Stop at an unusable audio file instead of leaving it out."
)
calibration_option = click.option(
    "--calibration",
    type=Existing("no calibration '{}'"),
    help="Thresholds by `sparsify evaluate --calibrate`; calibration.json beside the model if any.",
)
operating_point_option = click.option(
    "--at",
    "operating_point",
    type=Name(lambda: ["eer", "min-dcf-"]),
    help="Which threshold of the calibration: eer or min-dcf-P, P being a p_target."
    "  [default: eer]",
)
benchmark_option = click.option(
    "--benchmark", "measure_latency", is_flag=True, help="Measure the latency, too (see benchmark)."
)
speakers_option = click.option(
    "--speakers",
    type=PATH,
    metavar="FILE",
    help="For confidence intervals: one 'utterance speaker' per line, where the first folder of a"
    " name is not the speaker.",
)


def model_argument(*, embedding: bool = False, several: bool = False) -> Decorator:
    """`PATH` of a model; in the command's docstring `{models}` becomes what that may be.

    Args:
        embedding: Whether the model has to embed something.
        several: Whether it is `paths`, of which there may be many.
    """
    argument = paths_argument if several else path_argument

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        assert command.__doc__ is not None
        kinds = kinds_of_models(embedding=embedding)
        command.__doc__ = command.__doc__.replace("{models}", kinds)
        return argument(command)

    return decorate


def format_option() -> Decorator:
    """`--format`, what a model is written as."""
    return click.option(
        "--format",
        "format_name",
        type=click.Choice([each.name for each in written()]),
        required=True,
        help=about_formats(),
    )


def precision_option() -> Decorator:
    """`--precision`, the type of the weights in a file."""
    return click.option(
        "--precision",
        type=click.Choice(precisions()),
        default=SINGLE,
        show_default=True,
        help=about_precisions(),
    )


def max_bytes_option(about: str) -> Decorator:
    """`--max-bytes`, a budget of what is deployed.

    Args:
        about: Its help, without an example of a number.
    """
    return click.option(
        "--max-bytes",
        type=ByteCount(),
        metavar="N",
        help=f"{about}, such as 4e6 or 4MB.",
    )


def max_macs_option(about: str) -> Decorator:
    """`--max-macs`, a budget of work.

    Args:
        about: Its help.
    """
    return click.option("--max-macs", type=Share(), metavar="F", help=about)


def baseline_option(about: str) -> Decorator:
    """`--baseline`, a model that others are compared with.

    Args:
        about: Its help.
    """
    return click.option("--baseline", type=_MODEL, metavar="ARTIFACT", help=about)


def max_eer_loss_option(about: str) -> Decorator:
    """`--max-eer-loss`, what a model may lose.

    Args:
        about: Its help.
    """
    return click.option("--max-eer-loss", type=Number(-100, 100), metavar="POINTS", help=about)


def output_option(what: str, default: str | None = None, metavar: str = "PATH") -> Decorator:
    """`--output`, where a command writes; required if it has no default.

    Args:
        what: Its help.
        default: Where, if nothing is said.
        metavar: How the help names it.
    """
    return click.option(
        "--output",
        type=PATH,
        metavar=metavar,
        help=what,
        **({"required": True} if default is None else {"default": default, "show_default": True}),
    )


fail_if_option = click.option(
    "--fail-if",
    "gates",
    multiple=True,
    callback=lambda _context, _parameter, texts: _gates(texts),
    metavar="CONDITION",
    help="Exit with code 1 when this is true of METHOD@TARGET.METRIC, means over seeds; may be"
    " repeated.",
)
trial_label_option = click.option(
    "--trial-label",
    type=click.Choice(["first", "last"]),
    help="Which field of a trial list is the label, where names are 0 or 1, too.",
)


def trial_options(*, required: bool = False, about: str = "") -> Decorator:
    """`--trials`, `--trial-label` and `--audio-root`; the command gets a `TrialList` and the root.

    Args:
        required: Whether they must be given.
        about: Begins their help.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def joined(
            *, trial_list: Path | None, trial_label: LabelPlace | None, **others: Any
        ) -> Any:
            if trial_label and trial_list is None:
                raise click.UsageError("--trial-label needs --trials.")
            given = None
            if trial_list is not None:
                # Help without it is fast.
                from sparsify.verification.trials import TrialList  # noqa: PLC0415

                given = TrialList(trial_list, trial_label)
            return command(trial_list=given, **others)

        return trial_paths(required=required, about=about)(trial_label_option(joined))

    return decorate


def trial_paths(*, required: bool = False, about: str = "") -> Decorator:
    """`--trials` and `--audio-root`, both or none.

    Args:
        required: Whether they must be given.
        about: Begins their help.
    """
    trials_option = click.option(
        "--trials",
        "trial_list",
        type=Existing("no trial list '{}'"),
        required=required,
        metavar="FILE",
        help=f"{about}Trial list of lines '1|0 enrolment test' or 'enrolment test"
        " 1|0|target|nontarget'.",
    )
    audio_root_option = click.option(
        "--audio-root",
        type=PATH,
        required=required,
        metavar="DIR",
        help=f"{about}Folder that the names in the trial list start from; they may lack their"
        " extension.",
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def checked(*, trial_list: Path | None, audio_root: Path | None, **others: Any) -> Any:
            if (trial_list is None) != (audio_root is None):
                raise click.UsageError("--trials and --audio-root belong together.")
            return command(trial_list=trial_list, audio_root=audio_root, **others)

        return trials_option(audio_root_option(checked))

    return decorate


def _gates(texts: Sequence[str]) -> list[Gate]:
    if not texts:
        return []
    from sparsify.comparison.gates import parse_gate  # noqa: PLC0415 - few ask for it

    return [parse_gate(text) for text in dict.fromkeys(texts)]


def _remember_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta["sparsify.debug"] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_debug,
    help="Show the traceback of an error.",
)


def debugging() -> bool:
    """Whether `--debug` was given, before or after the command's name."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("sparsify.debug"))


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command has: `--json`, and `--debug`, `-v` and `-q`, applied before it runs."""

    @click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."
    )
    @debug_option
    @click.option("-v", "--verbose", is_flag=True, help="Also show what the library notes.")
    @click.option("-q", "--quiet", is_flag=True, help="Show nothing but results and errors.")
    @functools.wraps(command)
    def wrapper(*args: Any, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose exclude each other.")
        console.quiet = quiet
        configure_logging(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
        with json_alone() if kwargs["as_json"] else nullcontext():
            return command(*args, **kwargs)

    return wrapper
