"""The native format behind the one interface that all formats have."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from torch import nn

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import BITMASK, HALF
from sparsify.artifact.saving import write_artifact
from sparsify.artifact.tensor_file import read_tensors
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.native.front_end import front_end_section
from sparsify.exporters.native.kernels import by_density, measured_choice
from sparsify.exporters.native.library import compile_library, write_marker, write_sources
from sparsify.exporters.native.lowering import lower
from sparsify.exporters.native.page import write_page
from sparsify.exporters.native.process import emulator, emulator_wanted
from sparsify.exporters.native.program import Program, write_program
from sparsify.exporters.native.reading import WEIGHTS
from sparsify.exporters.native.session import native_network, target_of
from sparsify.exporters.native.targets import own_target, target_named
from sparsify.exporters.native.tracing import Trace, trace
from sparsify.exporters.networks import Network
from sparsify.verification.decision import Decision


def program_of(
    artifact: Artifact, *, measured: bool = True, traced: Trace | None = None
) -> Program:
    """A model as the engine runs it.

    Args:
        artifact: A model of ours, from any format.
        measured: Choose kernels by what is faster on this machine, not by density alone.
        traced: The network, where that is known.

    Raises:
        SparsifyError: The network has an operator that the engine has not.
    """
    model = artifact.build()
    bins = artifact.front_end.num_mel_bins
    name = str(artifact.path)
    steps = lower(traced or trace(model, bins, name), name)
    chosen = measured_choice(steps, bins) if measured else {}
    return write_program(
        steps,
        feature_dim=bins,
        sample_rate=artifact.front_end.sample_rate,
        front_end=front_end_section(artifact.front_end),
        choose=lambda step: chosen.get(id(step), by_density(step)),
        half=artifact.precision == HALF,
        least_frames=getattr(model, "min_frames", 1),
    )


class NativeExporter(Exporter):
    """A folder with a C library of one model, and the model that it was made of.

    Args:
        target: What it is compiled for; this machine if not given.
        decision: How the page for browsers decides; it shows cosines if not given.
    """

    engine = "native"

    def __init__(self, target: str | None = None, decision: Decision | None = None) -> None:
        self._target = target_named(target or own_target())
        self._decision = decision
        self._traced: tuple[object, Trace] | None = None  # the last network, which takes seconds

    def write(self, artifact: Artifact, output: Path, layout: str) -> None:
        """C code, compiled where there is a compiler."""
        model = artifact.build()
        traced = self._trace(artifact, model)
        program = program_of(artifact, measured=self._target.is_own, traced=traced)
        write_sources(output, program.blob)
        weights = output / WEIGHTS
        write_artifact(
            model, weights, artifact.front_end, artifact.recipe, BITMASK, artifact.measured
        )
        digest = read_tensors(weights).metadata["source_digest"]
        compile_library(output, self._target)
        if self._target.name == "wasm":
            write_page(output, artifact, digest, self._decision)
        layers = [asdict(layer) for layer in program.layers]
        write_marker(output, self._target, {"source_digest": digest, "layers": layers})

    def _trace(self, artifact: Artifact, model: nn.Module) -> Trace:
        """The network of an artifact; of the last one written it is known, but for its weights."""
        bins = artifact.front_end.num_mel_bins
        network = (artifact.architecture, bins)
        if self._traced is None or self._traced[0] != network:
            self._traced = network, trace(model, bins, str(artifact.path))
        return self._traced[1].of(model)

    def version(self) -> str:
        """Ours: the engine is a part of sparsify."""
        return version("sparsify-speaker")

    def obstacle(self, artifact: Artifact) -> str | None:
        """That it is not compiled, or that nothing here runs what it is compiled for."""
        target = target_of(artifact.path)
        if not (artifact.path / target.library).is_file():
            return "it is not compiled"
        if not target.is_own and emulator(target) is None:
            return f"{emulator_wanted(target)} is not installed"
        return None

    def emulated(self, artifact: Artifact) -> bool:
        """Whether it was compiled for another target than this machine."""
        return not target_of(artifact.path).is_own

    def network(self, artifact: Artifact, threads: int | None = None) -> Network:
        """The compiled library."""
        bins = artifact.front_end.num_mel_bins
        return native_network(artifact.path, bins, threads, trust=artifact.trusted)
