"""What a network does, as steps on rows: the frames of one channel, or a single value.

All that reshapes, slices or joins activations along other axes than time only says which rows are
meant, so it costs nothing: a `Value` is an array of rows with the shape that PyTorch's tensor has,
its time axis shrunk to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import sympy
from numpy.typing import NDArray

from sparsify.exporters.native.buffers import ONE, Buffer, Length, Rows, buffers_of


@dataclass(frozen=True)
class Value:
    """A tensor of the network.

    Attributes:
        rows: With the tensor's shape, the time axis having the size 1.
        time: The time axis, if there is one.
        length: Frames along it.
        segment: Frames that each element along the time axis is the mean of; 0 for a plain tensor.
        joined: Whether each of those means is repeated for its frames.
    """

    rows: Rows
    time: int | None
    length: Length = ONE
    segment: int = 0
    joined: bool = False

    def with_rows(self, rows: Rows, time: int | None) -> Value:
        """Other rows of the same length."""
        return replace(self, rows=rows, time=time)


@dataclass(frozen=True)
class Constant:
    """A number that is known at export."""

    value: float


@dataclass(frozen=True)
class Expression:
    """A number that depends on the number of frames."""

    value: sympy.Expr


@dataclass(frozen=True)
class Parameter:
    """A number for every row."""

    values: NDArray[np.float32]


@dataclass(frozen=True)
class Operand:
    """Rows, one for every row of a step; of length 1 they count for all frames."""

    rows: Rows
    length: Length


Argument: TypeAlias = Operand | Constant | Expression | Parameter


@dataclass(eq=False)
class Rowwise:
    """Element by element, or over time.

    Attributes:
        code: One of the engine's, such as `add` or `sum`.
        arguments: What it is computed from.
        target: Where it goes.
        rows: Rows of the target, one for every row of the arguments.
        scale, shift: Of `affine`, for every row.
        segment: Of `segment_mean`, in frames.
        layer: Name of the module that it belongs to.
    """

    code: str
    arguments: tuple[Argument, ...]
    target: Buffer
    rows: Rows
    scale: NDArray[np.float32] | None = None
    shift: NDArray[np.float32] | None = None
    segment: int = 0
    layer: str = ""

    @property
    def length(self) -> Length:
        """Frames that it runs over."""
        lengths = [each.length for each in self.arguments if isinstance(each, Operand)]
        return next((each for each in lengths if each != ONE), self.target.length)


@dataclass(eq=False)
class Residual:
    """What is added to the output of a convolution: `row + frequency · step + channel`."""

    buffer: Buffer
    row: int
    step: int


@dataclass(eq=False)
class Conv:
    """A matrix times rows, the same at each frequency.

    Attributes:
        weight: `(outputs, columns)`.
        bias: `(outputs,)`.
        target: Its rows are the outputs at each frequency.
        buffers: Of each column, the number of its buffer.
        index: Of each column, its row at the first frequency; may lie in the margin.
        shift: Of each column, the frame it reads relative to the one that is written.
        step: Rows from a frequency to the next in the input.
        layer: Name of the module that it belongs to.
        relu_before: Applied first of all.
        scale, shift_after: Applied next, `(outputs,)`.
        residual: Added next.
        relu_after: Applied last.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    target: Buffer
    buffers: NDArray[np.int64]
    index: NDArray[np.int64]
    shift: NDArray[np.int64]
    step: int
    layer: str = ""
    relu_before: bool = False
    scale: NDArray[np.float32] | None = None
    shift_after: NDArray[np.float32] | None = None
    residual: Residual | None = None
    relu_after: bool = False


@dataclass(eq=False)
class Gather:
    """Frame `i` of a row becomes frame `stride · (i // repeat) + offset` of another, or padding."""

    sources: Rows
    source_length: Length
    target: Buffer
    rows: Rows
    stride: int
    offset: int
    repeat: int = 1
    padding: str = "zero"


@dataclass(eq=False)
class Input:
    """The features of the utterance."""

    target: Buffer


@dataclass(eq=False)
class Attention:
    """Means of values, for each frame those weighed by the softmax of its products with keys.

    Attributes:
        queries, keys, values: Rows of what is multiplied and averaged, `(heads, width)`.
        key_length: Frames of keys and values.
        target: Where it goes.
        rows: Rows of the target, one for each of the values.
        scale: By which the products are multiplied.
    """

    queries: Rows
    keys: Rows
    values: Rows
    key_length: Length
    target: Buffer
    rows: Rows
    scale: float


Step: TypeAlias = Input | Rowwise | Conv | Gather | Attention


@dataclass
class Steps:
    """A network, lowered.

    Attributes:
        steps: In order.
        buffers: By their numbers.
        output: Rows of the embedding.
        least: Frames that some lengths must have at least.
    """

    steps: list[Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    output: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    least: dict[Length, int] = field(default_factory=dict)

    def buffer(self, channels: int, frequencies: int, length: Length) -> Buffer:
        """A new one."""
        made = Buffer(len(self.buffers), channels, frequencies, length)
        self.buffers.append(made)
        return made


def read_rows(step: Step) -> list[Rows]:
    """The rows that a step reads, margins left out."""
    if isinstance(step, Rowwise):
        return [each.rows for each in step.arguments if isinstance(each, Operand)]
    if isinstance(step, Gather):
        return [step.sources]
    if isinstance(step, Attention):
        return [step.queries, step.keys, step.values]
    return []


def read_buffers(step: Step) -> set[int]:
    """The numbers of the buffers that a step reads."""
    numbers = {int(each) for rows in read_rows(step) for each in np.unique(buffers_of(rows))}
    if isinstance(step, Conv):
        numbers |= {int(each) for each in np.unique(step.buffers)}
        if step.residual is not None:
            numbers.add(step.residual.buffer.number)
    return numbers
