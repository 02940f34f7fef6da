"""The command itself: its overview, its exit codes, and sentences in place of tracebacks."""

import errno
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.progress import Progress

from sparsify.cli import display, options
from sparsify.cli.bars import Clock
from sparsify.cli.main import COMMANDS, LazyCommand, main
from sparsify.errors import SparsifyError
from sparsify.progress import phase


def python(*arguments, cwd=None):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def probe(monkeypatch):
    """Makes `sparsify probe` run a function, and runs it."""

    def run(function, *arguments):
        @click.command("probe")
        @options.common_options
        def command(as_json):
            function()

        monkeypatch.setitem(sys.modules, "probe_module", SimpleNamespace(command=command))
        monkeypatch.setitem(COMMANDS, "probe", LazyCommand("probe_module:command", "Probe."))
        return CliRunner().invoke(main, arguments or ["probe"])

    return run


def raising(error):
    def function():
        raise error

    return function


WRONG = [
    "nonsense",
    "train --nonsense",
    "train --method nothing",
    "train --model nothing",
    "train --recipe nothing",
    "train --init-from nothing",
    "train --set training.stepz=3",
    "train --set training.steps=many",
    "train --accept-changes",
    "train --target-sparsity 1",
    "train --output {unfinished}",
    "train --output nothing --resume",
    "train --target-sparsity 0.9 --target-macs 0.1",
    "inspect",
    "inspect nothing",
    "inspect --sort sensitivity .",
    "inspect .",
    "inspect {unfinished}",
    "export nothing --format onnx --output x",
    "export . --format odd --output x",
    "export . --format onnx --output x --reduce-range",
    "export {model} --format onnx --output {model}",
    "benchmark nothing",
    "plan nothing --format onnx --max-ms 4",
    "plan ecapa-tdnn --format onnx",
    "evaluate nothing --trials . --audio-root .",
    "evaluate . --trials nothing --audio-root .",
    "evaluate {model} --trials {model} --audio-root . --det x",
    "evaluate {model} --trials {model} --audio-root . --calibrate x",
    "embed nothing --output x",
    "embed {model} --output x",
    "verify nothing a b",
    "verify {model} a b",
    "verify . a b --threshold 1 --at eer",
    "compare --methods dense,nothing",
    "compare --set training.stepz=3",
    "report . --trust",
    "data prepare nothing --output x",
    "completion nothing",
]
TYPED = {
    "tr": {"train"},
    "train --method a": {"acdc", "adabreg", "adabreg-fixed"},
    "train --recipe speech": {"speech-mini"},
    "train --model ecapa-tdnn-1": {"ecapa-tdnn-1024"},
    "train --set training.st": {"training.steps="},
    "train --set methods.gm": {"methods.gmp."},
    "train --device c": {"cpu", "cuda"},
    "compare --methods dense,li": {"dense,linbreg", "dense,linbreg-fixed"},
    "compare --tune gmp": {"gmp."},
    "export run --format o": {"onnx"},
    "export run --precision int": {"int8", "int4"},
    "export run --target w": {"wasm"},
    "plan resnet34": {"resnet34"},
    "inspect --sen": {"--sensitivity"},
    "data prepare --layout vox": {"voxceleb"},
    "completion z": {"zsh"},
}
AT_ONCE = """
import json, sys
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from sparsify.cli.main import main

def run(words):
    result = CliRunner().invoke(main, words)
    return result.exit_code, result.output

def complete(line):
    *words, last = line.split()
    items = ShellComplete(main, {}, "sparsify", "").get_completions(words, last)
    return [item.value for item in items]

helps, wrong, typed = json.loads(sys.argv[1])
told = [{" ".join(each): run([*each, "--help"]) for each in helps}]
told.append({each: run(each.split()) for each in wrong})
told.append({each: complete(each) for each in typed})
print(json.dumps([*told, list(sys.modules)]))
"""


def test_help_usage_errors_and_completion_import_nothing_heavy(tmp_path):
    there = {"model": tmp_path / "m.safetensors", "unfinished": tmp_path / "run"}
    there["model"].touch()
    there["unfinished"].mkdir()
    (there["unfinished"] / "recipe.yaml").touch()
    context = click.Context(main)
    groups = {(name,): main.get_command(context, name) for name in COMMANDS}
    below = [(*path, each) for path, one in groups.items() for each in getattr(one, "commands", ())]
    wrong = [line.format_map(there) for line in WRONG]
    asked = json.dumps([[(), *groups, *below], wrong, [*TYPED]])
    result = python("-c", AT_ONCE, asked, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    helps, wrong, typed, modules = json.loads(result.stdout)
    assert {"torch", "onnx", "onnxruntime"} & {*modules} == set()
    for name, command in COMMANDS.items():
        assert f"  {name} " in helps[""][1]
        assert command.help in helps[""][1]
    assert {code for code, _ in helps.values()} == {0}
    assert {
        line for line, (code, text) in wrong.items() if code != 2 or "unforeseen" in text
    } == set()
    assert {line: set(words) for line, words in typed.items()} == TYPED


def test_every_command_exists_and_explains_itself():
    context = click.Context(main)
    commands = {(name,): main.get_command(context, name) for name in COMMANDS}
    for path, group in list(commands.items()):
        if isinstance(group, click.Group):
            commands |= {(*path, name): command for name, command in group.commands.items()}
    for path, command in commands.items():
        result = CliRunner().invoke(main, [*path, "--help"])
        assert result.exit_code == 0, result.output
        assert "Example" in result.stdout, path
        if not isinstance(command, click.Group):
            assert "--json" in result.stdout, path
            assert "--debug" in result.stdout, path


def test_an_option_of_several_commands_is_declared_once():
    declared = Counter()
    for file in Path(options.__file__).parent.rglob("*.py"):
        declared.update(re.findall(r'click\.option\(\s*"(--[a-z-]+)"', file.read_text("utf-8")))
    again = {name for name, count in declared.items() if count > 1}
    # Of a corpus and of a file's tensors; one number and several.
    assert again == {"--layout", "--threads", "--frames"}


def test_the_overview_says_what_the_command_says():
    for name, command in COMMANDS.items():
        help_text = main.get_command(click.Context(main), name).help
        assert help_text.partition("\n")[0] == command.help


def test_it_runs_as_a_module():
    result = python("-m", "sparsify", "--version")
    assert result.returncode == 0, result.stderr
    assert version("sparsify-speaker") in result.stdout


def test_an_unknown_command_is_corrected():
    result = CliRunner().invoke(main, ["evalute"])
    assert result.exit_code == 2
    assert "did you mean 'evaluate'?" in result.stderr
    result = CliRunner().invoke(main, ["zzz"])
    assert result.exit_code == 2
    assert "known: data, train, inspect" in result.stderr


def test_wrong_usage_exits_with_2():
    assert CliRunner().invoke(main, ["evaluate"]).exit_code == 2
    assert CliRunner().invoke(main, ["--nonsense"]).exit_code == 2


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (SparsifyError("no such recipe: use another"), "Error: no such recipe: use another\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/model"),
            "Error: '/x/model': no space left on device\n",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "Error: permission denied\n"),
        (OSError("odd"), "Error: odd\n"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_code_2(probe, error, shown):
    result = probe(raising(error))
    assert result.exit_code == 2
    assert result.stderr == shown


@pytest.mark.parametrize("arguments", [["--debug", "probe"], ["probe", "--debug"]])
def test_debug_adds_the_traceback(probe, arguments):
    result = probe(raising(SparsifyError("wrong")), *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last)")
    assert result.stderr.endswith("\nError: wrong\n")


def test_a_failed_gate_exits_with_1(probe):
    result = probe(raising(display.GateError("too sparse")))
    assert result.exit_code == 1
    assert result.stderr == "Failed: too sparse\n"


def test_ctrl_c_exits_with_130_and_one_line(probe):
    result = probe(raising(KeyboardInterrupt()))
    assert result.exit_code == 130
    assert result.stderr == "Interrupted.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_sentence():
    command = [sys.executable, "-m", "sparsify", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "Error: no space left on device\n")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_leaves_is_no_error(monkeypatch, name):
    """What it does not read is lost, and the exit code is that of the command."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="latin-1") as stream:
        for each in (name, f"__{name}__"):
            monkeypatch.setattr(sys, each, stream)
        display.print_on_any_console()
        print("λ" * 100_000, file=getattr(sys, name))
        getattr(sys, name).flush()
        getattr(display, {"stdout": "out", "stderr": "console"}[name]).print("λ")


def test_a_bug_is_one_sentence_that_says_so(probe):
    result = probe(raising(ZeroDivisionError("lost")))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: unforeseen ZeroDivisionError: lost (a defect")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ([], ["Warning: careful", "Error: lost"]),
        (["-q"], ["Error: lost"]),
        (["-v"], ["Info: noted", "Warning: careful", "Error: lost"]),
    ],
)
def test_verbosity_decides_which_log_records_are_shown(probe, option, shown):
    def function():
        logger = logging.getLogger("sparsify.somewhere")
        logger.info("noted")
        for _ in range(2):  # is told once
            logger.warning("%s", "careful")
        logger.error("lost")

    for _ in range(2):  # a command forgets what another one has told
        result = probe(function, "probe", *option)
        assert result.stdout == ""
        assert result.stderr.splitlines() == shown


def test_quiet_and_verbose_exclude_each_other(probe):
    result = probe(lambda: None, "probe", "-q", "-v")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_results_go_to_stdout_and_progress_to_stderr(probe, monkeypatch):
    monkeypatch.setattr(display, "PLAIN_INTERVAL", 0.0)

    def function():
        consumed = list(display.track(iter("abc"), "Counting", 3))
        display.console.print("a message")
        display.emit_json({"letters": consumed})

    result = probe(function)
    assert json.loads(result.stdout) == {"letters": ["a", "b", "c"]}
    assert "Counting: 2/3" in result.stderr
    assert "a message" in result.stderr
    quiet = probe(function, "probe", "-q")
    assert quiet.stdout == result.stdout
    assert quiet.stderr == ""


def test_a_log_tells_what_takes_long_before_it_is_done(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(display, "console", Console(file=log))
    monkeypatch.setattr(display, "PATIENCE", 0.0)
    with click.Context(main), phase(display.track, "Counting"):
        while log.getvalue() != "Counting …\n":
            time.sleep(0.01)


@pytest.mark.parametrize("error", [SparsifyError("wrong"), KeyboardInterrupt()])
def test_a_bar_gives_the_cursor_back_when_its_loop_fails(probe, monkeypatch, error):
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(display, "console", terminal)

    def function():
        items = display.track(iter("abc"), "Counting", 3)  # lives on in the traceback
        for _ in items:
            raise error

    probe(function)
    shown = terminal.file.getvalue()
    assert "Counting" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_a_bar_has_a_clock_from_the_beginning():
    time, shown = [0.0], []
    bar = Progress(console=Console(file=io.StringIO()), get_time=lambda: time[0])
    task = bar.add_task("Measuring", total=4)
    for time[0], done in ((3.0, 0), (4.0, 1), (8.0, 2), (10.0, 4)):
        bar.update(task, completed=done)
        shown.append(Clock().render(bar.tasks[0]).plain)
    assert shown == ["0:00:03", "0:00:04", "0:00:08 left", "0:00:10"]


@pytest.mark.parametrize(("closed", "shown"), [(">&-", False), ("<&- 2>&-", True)])
def test_closed_streams_lose_what_is_said_and_nothing_else(closed, shown):
    command = ["sh", "-c", f'"$0" -m sparsify --version {closed}', sys.executable]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert (version("sparsify-speaker") in result.stdout) == shown


def test_what_a_network_prints_is_not_in_the_json(probe):
    def prints():
        click.echo("built")
        display.emit_json({"a": 1})

    result = probe(prints, "probe", "--json")
    assert json.loads(result.stdout) == {"a": 1}
    assert result.stderr == "built\n"


def test_json_has_no_number_that_is_none(capsys):
    display.emit_json({"loss": float("nan"), "rates": [1.5, float("inf")]})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "rates": [1.5, None]}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("arguments", [["inspect"], ["inspect", "--json"], ["train", "--help"]])
def test_a_console_without_our_characters_loses_nothing_else(artifacts, encoding, arguments):
    command = [*arguments, *([str(artifacts["dense"])] if "inspect" in arguments else [])]
    poor, rich = (
        CliRunner(charset=charset).invoke(main, command) for charset in (encoding, "utf-8")
    )
    assert poor.exit_code == 0, poor.output

    def kept(text):
        return "".join(char for char in text if char.isascii() and char.isalnum())

    assert kept(poor.stdout) == kept(rich.stdout)


def test_errors_reach_any_console(tmp_path):
    poor = {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "sparsify", "inspect", "λ.onnx"]
    process = subprocess.run(
        command, cwd=tmp_path, env=os.environ | poor, capture_output=True, check=False
    )
    assert process.returncode == 2
    assert re.fullmatch(rb"Error: no such file: '\?+\.onnx'\n", process.stderr)


def test_errors_of_any_length_are_a_line(probe):
    def function():
        raise ValueError("a\nb" * 5000)

    result = probe(function)
    assert result.exit_code == 2
    assert len(result.stderr) < 700
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (3_150_000, "3.15 MB"),
        (25_600_000_000, "25.6 GB"),
    ],
)
def test_sizes_are_readable(size, text):
    assert display.human_bytes(size) == text
