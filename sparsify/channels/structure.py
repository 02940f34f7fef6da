"""Which channels of a network belong together, who makes them and who reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparsify.channels.atoms import Atoms, Ids


@dataclass(frozen=True)
class Site:
    """Where channels are read: a product with a weight, or a sum.

    Attributes:
        module: Where in the network.
        input: Number of the tensor that is read, its channels along `axis`.
        axis: That axis.
        weight: Number of what multiplies, `(out, in, …)` where `transposed` is not set; `None` for
            a plain sum.
        transposed: Whether it is `(in, out)`.
        bias: Name of the parameter that a constant can be added to, if there is one.
        reads: The channels.
        makes: Those that come of it.
    """

    module: str
    input: int
    axis: int
    weight: int | None
    transposed: bool
    bias: str | None
    reads: Ids
    makes: Ids


@dataclass(frozen=True)
class Joint:
    """A `Sum`, whose operands may lack channels that it has.

    Attributes:
        path: Its name in the network.
        operands: Numbers of the tensors that are added, all channels in their places.
        reads: Their channels; `ANY` where there is none.
        makes: Those of the sum.
    """

    path: str
    operands: tuple[int, int]
    reads: tuple[Ids, Ids]
    makes: Ids


@dataclass(frozen=True)
class Loss:
    """An activation whose channels stay, since something mixes them.

    Attributes:
        what: Does so, in words.
        input: Number of the activation.
        ids: Its channels.
    """

    what: str
    input: int
    ids: Ids


@dataclass
class Structure:
    """The channels of a network.

    Attributes:
        atoms: All channels, and which are tied.
        axes: By parameter and axis the channel of each index; `ANY` where it is none.
        sites: Where channels are read.
        joints: Where branches meet that may lack channels.
        losses: What could not be followed.
        tensors: The channels of each activation.
    """

    atoms: Atoms = field(default_factory=Atoms)
    axes: dict[tuple[str, int], Ids] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)
    joints: list[Joint] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    tensors: list[Ids] = field(default_factory=list)
