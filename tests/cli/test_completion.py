"""What TAB makes of a line in the shells themselves."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparsify.cli.recipe_options import _keys
from sparsify.recipe.recipe import Recipe

TYPED = {
    "sparsify train --method ri": "sparsify train --method rigl ",
    "sparsify inspect --sort=si": "sparsify inspect --sort=size ",
    "sparsify train --set=training.batch_s": "sparsify train --set=training.batch_size=",
    "sparsify inspect m": "sparsify inspect model.onnx ",
}
SETUP = {
    "bash": """eval "$(sparsify completion bash)"; tell() { echo "<<$READLINE_LINE>>"; }
bind -x '"\\C-xt": tell'; PS1=; echo rea""dy
""",
    "zsh": """autoload -U compinit; compinit -u -D; eval "$(sparsify completion zsh)"
tell() { print -r -- "<<$BUFFER>>"; }; zle -N tell; bindkey '^Xt' tell; PS1=; echo rea""dy
""",
}
STARTS = {"bash": ("--norc", "--noprofile", "-i"), "zsh": ("-f", "-i")}
PATIENCE = 30  # seconds, of a machine that does a lot besides


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model in it, where the shells find `sparsify`."""
    (tmp_path / "model.onnx").touch()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return tmp_path


def shell_of(name):
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def until(terminal, pattern):
    """What a terminal shows up to a pattern."""
    shown, end = "", time.monotonic() + PATIENCE
    while not (found := re.search(pattern, shown)):
        assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], shown
        shown += os.read(terminal, 1 << 16).decode()
    return found


@pytest.mark.parametrize("name", [*SETUP])
def test_tab_completes_a_line(name, place):
    ours, theirs = pty.openpty()
    command = [shell_of(name), *STARTS[name]]
    shell = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=place)
    try:
        os.write(ours, SETUP[name].encode())
        until(ours, "ready")
        for line, expected in TYPED.items():
            os.write(ours, f"{line}\t\x18t".encode())
            assert until(ours, r"<<(.*)>>")[1] == expected
            os.write(ours, b"\x15")  # an empty line again
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
        os.close(theirs)


def test_fish_completes_a_line(place):
    script = ["sparsify completion fish | source", *(f"complete -C '{line}'" for line in TYPED)]
    command = [shell_of("fish"), "--no-config", "--command", "; ".join(script)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place)
    expected = [line.split()[-1] for line in TYPED.values()]
    assert told.stdout.split() == expected


def test_the_keys_of_recipes_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = list(_keys())
    assert {"training.steps", "methods.adabreg."} <= {*first}
    monkeypatch.setattr(Recipe, "setting_names", None)
    assert list(_keys()) == first
