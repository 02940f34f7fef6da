"""The formats of model files: one line for each, which everything that handles files asks.

What a format does is in its exporter (see `sparsify.exporters.exporter`), a module that is imported
when the first file of that format is met. Importing this module takes neither torch nor a runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.errors import SparsifyError, did_you_mean
from sparsify.named import named

DENSE = "dense"
"""The layout that stores zeros like all other weights; every format that is written has it."""
BITMASK, CODED = "bitmask", "coded"
"""Layouts of safetensors: a zero takes one bit, or the tensors are entropy-coded."""
FEATURES, SAMPLES = "features", "waveform"
"""What a graph is given; the latter where it computes its features itself."""
SINGLE = "fp32"
"""The precision of weights as they were trained; every format has it."""
HALF, EIGHT_BITS, FOUR_BITS = "fp16", "int8", "int4"
_ABOUT_LAYOUTS = {
    DENSE: "stores the zeros",
    BITMASK: "stores one bit for each",
    CODED: "is the smallest",
}


@dataclass(frozen=True)
class Format:
    """What is known of a format without its exporter.

    Attributes:
        name: What the command line calls it.
        suffixes: How its files end, in lower case; written files end in the first.
        home: Its exporter, as `module:class`.
        reader: What reads its files whoever wrote them, as `module:function`: from a path to
            `sparsify.artifact.weights.Weights`. It raises `SparsifyError` for what is damaged or
            would become absurdly large, `OSError` for what cannot be read.
        about: What it is for, in a few words.
        layouts: How it can store zeros; none if it is only read.
        precisions: Types that it can store weights in.
        rounding_layouts: Layouts in which rounded weights take less; all if not given.
        quantising: Those of the precisions in which activations are rounded, too, to ranges that
            take speech.
        companions: How the names of files that belong to one go on.
        marker: Where it is a folder instead of a file: the file in it by which it is known.
        deployed: Where it is a folder: what in it is copied to where the model runs, whichever of
            these is there.
        targets: Machines that it can be compiled for.
        deciding: Those of them whose exports decide by a threshold.
        front_ends: Whether it can hold what computes the features, too.
        counter: What counts the multiply-adds of a file whose network is not known, as
            `module:function`.
    """

    name: str
    suffixes: tuple[str, ...]
    home: str
    reader: str
    about: str = ""
    layouts: tuple[str, ...] = (DENSE,)
    precisions: tuple[str, ...] = (SINGLE,)
    rounding_layouts: tuple[str, ...] = ()
    quantising: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    marker: str | None = None
    deployed: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    deciding: tuple[str, ...] = ()
    front_ends: bool = False
    counter: str | None = None

    def exporter(self, **options: Any) -> Any:
        """Its exporter, imported now.

        Args:
            options: What formats that have `targets` are told; `None` is the default.
        """
        given = {key: value for key, value in options.items() if value is not None}
        return named(self.home)(**given)

    def matches(self, path: Path) -> bool:
        """Whether something on disk looks like this format."""
        if self.marker is not None:
            return (path / self.marker).is_file()
        return path.suffix.lower() in self.suffixes and not path.is_dir()

    def files(self, path: Path) -> list[Path]:
        """What an export to a path makes, that path first."""
        return [path.with_name(f"{path.name}{suffix}") for suffix in ("", *self.companions)]

    def deployed_file(self, path: Path) -> Path:
        """What of an export is copied to where the model runs; all of it if that is not there."""
        files = (path / each for each in self.deployed)
        return next((each for each in files if each.exists()), path)

    def check_replaceable(self, path: Path) -> None:
        """Refuses to replace by a folder what no export has made.

        Raises:
            SparsifyError: Another folder, or no folder, is there.
        """
        if not (path.is_dir() and self.matches(path)):
            raise SparsifyError(
                f"cannot write '{path}': no {self.name} export has made what is there, name a new"
                " folder"
            )

    def check_name(self, path: Path) -> None:
        """Refuses to write a file whose name says something else, or nothing.

        Raises:
            SparsifyError: It does.
        """
        if path.name in ("", ".."):
            raise SparsifyError(f"cannot write '{path}': give what is written a name")
        if self.suffixes and path.suffix != self.suffixes[0]:
            raise SparsifyError(f"cannot write '{path}': the name must end in {self.suffixes[0]}")

    def check_layout(self, layout: str) -> None:
        """Refuses a layout that the format does not have.

        Raises:
            SparsifyError: It does not have it.
        """
        if layout not in self.layouts:
            others = " or ".join(each.name for each in written() if layout in each.layouts)
            raise SparsifyError(
                f"the format {self.name} has no {layout} layout: leave out --layout or export"
                f" {others or 'another format'}"
            )

    def check_precision(self, precision: str, layout: str = DENSE) -> None:
        """Refuses a type of weights that the format cannot store, or not in a layout.

        Raises:
            SparsifyError: It cannot.
        """
        if precision not in self.precisions:
            others = " or ".join(each.name for each in written() if precision in each.precisions)
            raise SparsifyError(
                f"the format {self.name} has no {precision} weights: leave out --precision or"
                f" export {others or 'another format'}"
            )
        if precision != SINGLE and layout not in (self.rounding_layouts or self.layouts):
            raise SparsifyError(
                f"{precision} weights take less only in the {' or '.join(self.rounding_layouts)}"
                f" layout of {self.name}: add --layout {self.rounding_layouts[0]}"
            )

    def check_speech(self, precision: str, speech: Path | None) -> None:
        """Refuses a precision that takes speech without it, and speech that nothing needs.

        Raises:
            SparsifyError: One is given without the other.
        """
        if precision in self.quantising and speech is None:
            raise SparsifyError(
                f"{precision} in {self.name} rounds activations, too, whose ranges take speech:"
                " give --quantize-audio, such as a folder of the training data"
            )
        if precision not in self.quantising and speech is not None:
            makers = " or ".join(
                f"--format {one.name} --precision {each}"
                for one in written()
                for each in one.quantising
            )
            raise SparsifyError(f"only {makers} takes --quantize-audio and --reduce-range")

    def check_front_end(self) -> None:
        """Refuses to put the front end into what cannot hold it.

        Raises:
            SparsifyError: It cannot.
        """
        if not self.front_ends:
            others = " or ".join(each.name for each in written() if each.front_ends)
            raise SparsifyError(
                f"the format {self.name} holds no front end: leave out --with-frontend or export"
                f" {others}"
            )

    def check_target(self, target: str | None) -> None:
        """Refuses to compile what is not compiled.

        Raises:
            SparsifyError: The format is no code.
        """
        if target is not None and target not in self.targets:
            others = " or ".join(each.name for each in written() if target in each.targets)
            raise SparsifyError(
                f"the format {self.name} is not compiled for {target}: leave out --target or"
                f" export {others or 'another format'}"
            )

    def check_decision(self, target: str | None) -> None:
        """Refuses a threshold for what decides nothing.

        Raises:
            SparsifyError: It does not.
        """
        if target not in self.deciding:
            makers = " or ".join(
                f"--format {one.name} --target {each}" for one in written() for each in one.deciding
            )
            raise SparsifyError(
                f"only the page that {makers} writes takes --calibration and --at: leave them out"
            )


FORMATS: tuple[Format, ...] = (
    Format(
        "safetensors",
        (".safetensors",),
        "sparsify.exporters.safetensors:SafetensorsExporter",
        "sparsify.artifact.tensor_file:read_tensors",
        "loads in anything",
        layouts=(DENSE, BITMASK, CODED),
        precisions=(SINGLE, HALF, EIGHT_BITS, FOUR_BITS),
        rounding_layouts=(CODED,),
    ),
    Format(
        "onnx",
        (".onnx",),
        "sparsify.exporters.onnx.exporter:OnnxExporter",
        "sparsify.exporters.onnx.reading:read_onnx",
        "runs anywhere",
        precisions=(SINGLE, EIGHT_BITS),
        quantising=(EIGHT_BITS,),
        front_ends=True,
        counter="sparsify.exporters.onnx.work:work_in",
    ),
    Format(
        "mnn",
        (".mnn",),
        "sparsify.exporters.mnn.exporter:MnnExporter",
        "sparsify.exporters.mnn.reading:read_mnn",
        "gains from zeros",
        companions=(".json",),
    ),
    Format(
        "native",
        (),
        "sparsify.exporters.native.exporter:NativeExporter",
        "sparsify.exporters.native.reading:read_native",
        "is a C library that gains from zeros",
        precisions=(SINGLE, HALF),
        marker="native.json",
        deployed=("libmodel.so", "web", "weights.bin"),
        targets=("x86", "arm64", "wasm"),
        deciding=("wasm",),
    ),
    Format(
        "pt",
        (".pt", ".pth", ".ckpt", ".bin", ".model"),
        "sparsify.exporters.exporter:Exporter",
        "sparsify.artifact.state_dicts:read_pt",
        layouts=(),
    ),
)


def written() -> tuple[Format, ...]:
    """The formats that models are exported to."""
    return tuple(each for each in FORMATS if each.layouts)


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        SparsifyError: There is none.
    """
    for each in FORMATS:
        if each.name == name:
            return each
    known = [each.name for each in FORMATS]
    raise SparsifyError(f"unknown format '{name}': {did_you_mean(name, known)}")


def format_of(path: Path) -> Format:
    """The format of a file, or of a folder that an export made.

    Raises:
        SparsifyError: It looks like none.
    """
    for each in FORMATS:
        if each.matches(path):
            return each
    raise SparsifyError(f"'{path}' is not a model: give {kinds_of_models()}")


def is_exported_folder(path: Path) -> bool:
    """Whether a folder is what an export made, and not a run directory."""
    return path.is_dir() and any(each.matches(path) for each in FORMATS)


def layouts() -> tuple[str, ...]:
    """The layouts of all formats."""
    return tuple(dict.fromkeys(layout for each in written() for layout in each.layouts))


def precisions() -> tuple[str, ...]:
    """The precisions of all formats."""
    return tuple(dict.fromkeys(each for one in written() for each in one.precisions))


def targets() -> tuple[str, ...]:
    """The targets of all formats."""
    return tuple(dict.fromkeys(each for one in written() for each in one.targets))


def about_precisions() -> str:
    """A sentence about all precisions, for `--precision`."""
    parts = []
    for precision in precisions():
        having = [each for each in written() if precision in each.precisions]
        every = len(having) == len(written())
        names = [" --layout ".join((each.name, *each.rounding_layouts)) for each in having]
        parts.append(precision if every else f"{precision} ({', '.join(names)} only)")
    return f"Type that weights are stored in: {', '.join(parts)}."


def about_formats() -> str:
    """A sentence about all formats that are written, for `--format`."""
    return f"{'; '.join(f'{each.name} {each.about}'.strip() for each in written())}."


def about_layouts() -> str:
    """A sentence about all layouts, for `--layout`."""
    parts = []
    for layout in layouts():
        having = [each.name for each in written() if layout in each.layouts]
        only = "" if len(having) == len(written()) else f" ({', '.join(having)} only)"
        parts.append(f"{layout}{only} {_ABOUT_LAYOUTS.get(layout, '')}".strip())
    return f"{'; '.join(parts)}."


def kinds_of_models(*, embedding: bool = False) -> str:
    """What a `PATH` may be, such as "a run directory, .safetensors, .onnx or .pt file".

    Args:
        embedding: Leave out formats of bare weights, which alone cannot embed anything.
    """
    formats = written() if embedding else FORMATS
    folders = [f"{each.name} folder" for each in formats if each.marker is not None]
    *first, last = (each.suffixes[0] for each in formats if each.suffixes)
    return f"a {', '.join(['run directory', *folders, *first])} or {last} file"


def masks_file(path: Path) -> Path:
    """Where the masks of an export to a path are."""
    return path.with_name(f"{path.stem}.masks{STORE.suffixes[0]}")


STORE = format_named("safetensors")
"""What run directories hold."""
MODEL_FILE = f"model{STORE.suffixes[0]}"
"""Its name in a run directory."""
RECIPE_FILE = "recipe.yaml"
"""The name of a run's recipe."""
RUNTIME = format_named("onnx")
"""What latencies are measured in where a format has no engine of its own."""
