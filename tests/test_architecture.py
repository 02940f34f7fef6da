"""Imports run downwards only, and in no circle."""

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOP_LEVEL = ("cli", "benchmarks", "exporters")
FLOORS = (
    *TOP_LEVEL,
    *("report", "comparison", "training", "verification", "corpus", "methods", "artifact"),
    *("augment", "optim", "channels", "models", "audio", "recipe", "sparsity"),
)
# The doors of the package know what is behind them; all other modules of it are the basement.
DOORS = ("sparsify", "sparsify.__main__", "sparsify.api", "sparsify.optim")
DATA = ("recipes",)


def imported(file):
    """The modules of ours that a file imports."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sparsify"):
            # `from sparsify.audio import resampling` means a module, too.
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def modules():
    for folder in ("sparsify", *TOP_LEVEL):
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if folder == "sparsify" else ("sparsify", *parts))
            yield name.removesuffix(".__init__"), file


def floor(module):
    """How high a module lies."""
    room = module.split(".")[1]
    return len(FLOORS) - FLOORS.index(room) if room in FLOORS else 0


MODULES = dict(modules())


def test_every_folder_has_a_floor():
    packages = (ROOT / "sparsify").glob("*/__init__.py")
    assert {p.parent.name for p in packages} | set(TOP_LEVEL) == {*FLOORS, *DATA}


def test_imports_run_downwards_and_in_no_circle():
    graph = {
        module: {name for name in imported(file) if name in MODULES}
        for module, file in MODULES.items()
        if module not in DOORS
    }
    upwards = {
        (module, name)
        for module, names in graph.items()
        for name in names - set(DOORS)
        if floor(name) > floor(module)
    }
    assert not upwards
    graphlib.TopologicalSorter(graph).prepare()
