"""What a format can do: the one interface that every exporter has.

A new format is a module here with a subclass of `Exporter`, and a line in
`sparsify.artifact.formats`, which names that class and what reads the files, and says how these are
recognised.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import DENSE, Format
from sparsify.exporters.networks import PYTORCH, Network, torch_network
from sparsify.exporters.quantise import Quantisation
from sparsify.exporters.twin import dense_model
from sparsify.verification.decision import Decision


class Exporter:
    """Writes and runs the files of one format, which its reader has read.

    A format that is only read does without `write`; one that has no engine of its own runs in
    PyTorch.

    Attributes:
        engine: What runs the files, as benchmarks call it.
    """

    engine = PYTORCH

    def write(self, artifact: Artifact, output: Path, layout: str) -> None:
        """Writes a file, and what belongs to it into the same folder.

        Args:
            artifact: A model of ours, from any format; its weights fit its `precision`.
            output: A path where nothing is; who calls moves everything into place.
            layout: One that the format has.

        Raises:
            SparsifyError: The model cannot be written in this format.
        """
        raise NotImplementedError(f"{type(self).__name__} only reads")

    def network(self, artifact: Artifact, threads: int | None = None) -> Network:
        """The network in a file, ready to run.

        Args:
            artifact: What was read from it.
            threads: Threads per call; the engine's default if not given.

        Raises:
            SparsifyError: The file does not embed features, or names code and is not trusted.
        """
        return torch_network(artifact.build(), threads)

    def reference(self, artifact: Artifact, written: Artifact) -> Network:
        """What a file must compute: the network in PyTorch, if nothing else is meant.

        Args:
            artifact: The model that was written.
            written: What was read from the file.
        """
        return torch_network(artifact.build())

    def version(self) -> str:
        """Version of the engine, which is imported for that.

        Raises:
            SparsifyError: It is not installed.
        """
        return torch.__version__

    def obstacle(self, artifact: Artifact) -> str | None:
        """Why a file cannot be run on this machine, if it cannot: there is no compiler, say.

        Args:
            artifact: What was read from it.
        """
        return None

    def emulated(self, artifact: Artifact) -> bool:
        """Whether a file is for another kind of machine, so that its speed here means nothing.

        Args:
            artifact: What was read from it.
        """
        return False

    def twin(self, artifact: Artifact, output: Path) -> None:
        """Writes the same network without zeros, in the dense layout.

        Args:
            artifact: What was read from a file of this format.
            output: As in `write`.

        Raises:
            SparsifyError: It cannot be written.
        """
        self.write(dense_model(artifact), output, DENSE)


def exporter_of(
    format_: Format,
    target: str | None = None,
    decision: Decision | None = None,
    quantisation: Quantisation | None = None,
    *,
    with_front_end: bool = False,
) -> Exporter:
    """The exporter of a format, its module imported now.

    Args:
        format_: The format.
        target: What it compiles for, one of the format's targets; this machine if not given.
        decision: How its exports decide, for targets that do.
        quantisation: How layers become int8, for formats whose activations are rounded, too.
        with_front_end: Whether its exports compute their features, for formats that can.
    """
    exporter: Exporter = format_.exporter(
        target=target,
        decision=decision,
        quantisation=quantisation,
        with_front_end=with_front_end or None,
    )
    return exporter
