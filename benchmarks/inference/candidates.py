"""What takes part in a benchmark: given files, their exports, their dense twins."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.formats import DENSE, RUNTIME, SINGLE, Format, written
from sparsify.artifact.loading import load_artifact
from sparsify.errors import SparsifyError, did_you_mean
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.networks import PYTORCH
from sparsify.exporters.sizes import was_shrunk
from sparsify.files import size_bytes, zipped_bytes
from sparsify.progress import Track


@dataclass(frozen=True)
class Candidate:
    """A file and what runs it.

    Attributes:
        path: The file, or the folder.
        given: The artifact that it is, or was made from.
        engine: What runs it.
        artifact: `sparse`, or `dense` where no weight is zero; `shrunk` where it has fewer channels
            than the dense network that it is compared with.
        precision: Type of the weights.
        sparsity: Share of exact zeros among the prunable weights.
        bytes: Size of the file; of a folder, of the file in it that programs load.
        zipped_bytes: Its size after deflate.
        trust: Whether it may name code.
        network: Numbers what shares a baseline.
        baseline: Whether it is that: the dense twin in the runtime that all are compared with.
    """

    path: Path
    given: Path
    engine: str
    artifact: str
    precision: str
    sparsity: float
    bytes: int
    zipped_bytes: int
    trust: bool
    network: int
    baseline: bool = False

    @property
    def spec(self) -> dict[str, Any]:
        """What a process must know to run it."""
        return {"path": str(self.path), "engine": self.engine, "trust": self.trust}

    @property
    def is_given(self) -> bool:
        """Whether it is the given file itself, not an export or a twin of it."""
        return self.path == self.given and self.engine != PYTORCH

    @property
    def label(self) -> str:
        """Names it in a sentence."""
        return f"'{self.given}' ({self.artifact}) in {self.engine}"


@dataclass
class _File:
    """A file that an engine runs, and the one it was made from."""

    artifact: Artifact
    given: Path
    shrunk: bool = False

    @property
    def engine(self) -> str:
        return exporter_of(self.artifact.format).engine

    @cached_property
    def sparsity(self) -> float:
        return weights_table(self.artifact).sparsity


@dataclass
class _Network:
    """Artifacts that share their dense twins, and what engines run of them.

    Some may lack dead channels of the one that is then `whole`.
    """

    number: int
    artifacts: list[Artifact] = field(default_factory=list)
    files: list[_File] = field(default_factory=list)
    whole: Artifact | None = None

    @property
    def runnable(self) -> Artifact | None:
        """One from which a network can be built, if there is any."""
        return next((each for each in self.artifacts if each.rebuildable), None)

    @property
    def source(self) -> Artifact | None:
        """One from which the network can be built with all its channels, if there is any."""
        if self.whole is None:
            return self.runnable
        return self.whole if self.whole.rebuildable else None


@dataclass
class Gathering:
    """Makes the candidates of a benchmark.

    Attributes:
        folder: Where temporary files may be.
        engines: The only ones to take part, besides the baseline; all if there are none.
        left_out: Sentences about engines that could not take part.
    """

    folder: Path
    engines: Collection[str] = ()
    left_out: list[str] = field(default_factory=list)
    _made: int = 0

    def candidates(
        self, artifacts: Sequence[Artifact], track: Track, source: Artifact | None = None
    ) -> list[Candidate]:
        """All of them: by network, the baseline and what runs in its engine first.

        A file of a format that has an engine runs in that; any other is exported to every format
        that has one. All artifacts of a network share their dense twins, those that were shrunk
        from another of them among them.

        Args:
            artifacts: What is measured.
            track: Reports progress.
            source: The model that they were made from, where they alone do not make a baseline.

        Raises:
            SparsifyError: A model cannot be exported for the baseline, an engine is unknown, or
                nothing is left that can be measured here.
        """
        self._check_engines()
        networks: dict[object, _Network] = {}
        for artifact in track(artifacts, "Preparing models", len(artifacts)):
            files = list(self._files(artifact))
            if not files:
                continue
            whole = next((e for e in (*artifacts, source) if e and was_shrunk(artifact, e)), None)
            key = _network_of(whole or artifact)
            network = networks.setdefault(key, _Network(len(networks)))
            network.artifacts.append(artifact)
            network.files += [replace(file, shrunk=whole is not None) for file in files]
            network.whole = whole or network.whole
        if not networks:
            raise SparsifyError(self.left_out[0])
        if source is not None and (known := networks.get(_network_of(source))):
            known.artifacts.append(source)
        twins = track(networks.values(), "Preparing dense twins", len(networks))
        return [each for network in twins for each in self._of_network(network)]

    def _of_network(self, network: _Network) -> Iterator[Candidate]:
        baseline = self._baseline(network)
        yield replace(_candidate(baseline, network), baseline=True)
        for engine in dict.fromkeys([baseline.engine, *(each.engine for each in network.files)]):
            if not self._takes_part(engine):
                continue
            own = [f for f in network.files if f.engine == engine and f is not baseline]
            if engine != baseline.engine and all(each.sparsity or each.shrunk for each in own):
                yield _candidate(self._dense(own, network), network)
            for each in own:
                yield _candidate(each, network)
        runnable = network.runnable
        if runnable is not None and self._takes_part(PYTORCH):
            shrunk = network.whole is not None and was_shrunk(runnable, network.whole)
            given = {file.given for file in network.files}
            path = runnable.path if runnable.path in given else network.artifacts[0].path
            eager = _File(runnable, path, shrunk)
            yield replace(_candidate(eager, network), engine=PYTORCH)

    def _files(self, artifact: Artifact) -> Iterator[_File]:
        """What engines run of an artifact: itself, or its exports."""
        exporter = exporter_of(artifact.format)
        if exporter.engine != PYTORCH:
            if exporter.emulated(artifact):
                self.left_out.append(
                    f"'{artifact.path}' is left out: it is for another kind of machine, and only"
                    " there can its speed be measured"
                )
            else:
                yield _File(artifact, artifact.path)
            return
        for format_ in written():
            engine = exporter_of(format_).engine
            if engine == PYTORCH or (format_ != RUNTIME and not self._takes_part(engine)):
                continue
            try:
                yield self._export(artifact, format_)
            except SparsifyError as error:
                if format_ == RUNTIME or self.engines:
                    raise
                self.left_out.append(f"{engine} is left out: {error}")

    def _baseline(self, network: _Network) -> _File:
        """A dense file in the runtime that all are compared with; in its own if there is no way."""
        own = [
            each
            for each in network.files
            if each.artifact.format == RUNTIME and not each.artifact.quantised and not each.shrunk
        ]
        dense = [each for each in own if not each.sparsity]
        if dense:
            return dense[0]
        samples = any(each.artifact.takes_samples for each in network.files)
        if not own and network.source is not None and (network.whole or not samples):
            own = [self._export(network.source, RUNTIME, with_front_end=samples)]
        first, *_ = own or network.files
        return self._twin(replace(first, given=network.artifacts[0].path))

    def _dense(self, own: Sequence[_File], network: _Network) -> _File:
        """The dense twin of files in one engine, with all channels."""
        first, *_ = sorted(own, key=lambda file: file.shrunk)
        if first.shrunk and network.source is not None:
            exported = self._export(network.source, first.artifact.format)
            first = replace(exported, given=first.given)
        return self._twin(first)

    def _export(
        self, artifact: Artifact, format_: Format, *, with_front_end: bool = False
    ) -> _File:
        path = self._place() / f"model{format_.suffixes[0] if format_.suffixes else ''}"
        exporter = exporter_of(format_, with_front_end=with_front_end)
        exporter.write(artifact, path, DENSE)
        file = load_artifact(path, trust=artifact.trusted)
        if obstacle := exporter.obstacle(file):
            raise SparsifyError(f"its export of '{artifact.path}' does not run here: {obstacle}")
        return _File(file, artifact.path)

    def _twin(self, file: _File) -> _File:
        if not file.sparsity and not file.artifact.quantised:
            return file
        path = self._place() / file.artifact.path.name
        exporter_of(file.artifact.format).twin(file.artifact, path)
        return _File(load_artifact(path, trust=file.artifact.trusted), file.given, file.shrunk)

    def _place(self) -> Path:
        """A new folder: what belongs to a file lies beside it."""
        self._made += 1
        place = self.folder / str(self._made)
        place.mkdir()
        return place

    def _takes_part(self, engine: str) -> bool:
        return not self.engines or engine in self.engines

    def _check_engines(self) -> None:
        known = dict.fromkeys([*(exporter_of(each).engine for each in written()), PYTORCH])
        for engine in self.engines:
            if engine not in known:
                raise SparsifyError(f"unknown engine '{engine}': {did_you_mean(engine, known)}")


def candidate_of(artifact: Artifact, given: Path) -> Candidate:
    """A file that its engine runs, apart from all others.

    Args:
        artifact: The file.
        given: What it was made from.
    """
    return _candidate(_File(artifact, given), _Network(0))


def _candidate(file: _File, network: _Network) -> Candidate:
    artifact, sparsity = file.artifact, file.sparsity
    deployed = artifact.format.deployed_file(artifact.path)
    known = artifact.precision in artifact.format.precisions
    if artifact.precision in artifact.format.quantising:
        known = artifact.quantised
    return Candidate(
        path=artifact.path,
        given=file.given,
        engine=file.engine,
        artifact="shrunk" if file.shrunk else "sparse" if sparsity else "dense",
        precision=artifact.precision if known else SINGLE,
        sparsity=sparsity,
        bytes=size_bytes(deployed),
        zipped_bytes=zipped_bytes(deployed),
        trust=artifact.trusted,
        network=network.number,
    )


def _network_of(artifact: Artifact) -> object:
    """Equal for artifacts that differ in their weights alone."""
    known = artifact.architecture
    if known is not None:
        network = (sorted(known.options.items()), sorted(known.widths.items()))
        return known.name, repr(network), artifact.front_end.num_mel_bins
    return tuple(sorted((name, tuple(each.shape)) for name, each in artifact.state.items()))
