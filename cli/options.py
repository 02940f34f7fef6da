"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

PATH = click.Path(path_type=Path)

threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the runtime; its default if unset."
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Import and run the code that the file names as its network (module:factory).",
)
set_option = click.option(
    "--set", "assignments", multiple=True, metavar="key=value", help="Override a recipe key."
)
