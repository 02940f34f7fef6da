"""Training batches: a function of the seed and the step alone."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparsify.audio.parallel import PROCESSES, available_cores
from sparsify.audio.samples import Samples
from sparsify.augment.augment import Augmenter, change_speed, source_samples
from sparsify.corpus.cache import AudioCache
from sparsify.corpus.corpus import Corpus
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import Recipe

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]

# Batches of 64 crops of 1.5 s in flight then fit a container's 64 MiB of shared memory.
_MOST_WORKERS = 4
_PREFETCH = 2
# Tags that keep the random streams of epochs and crops apart.
_EPOCH, _CROP = 1, 2


def crop_samples(recipe: Recipe, step: int) -> int:
    """Samples of a crop in the batch of a step, counted from 0."""
    large_margin = step >= recipe.large_margin_begins
    section = recipe.objective.large_margin if large_margin else recipe.data
    return round(section.crop_seconds * recipe.front_end.sample_rate)


def training_batches(
    corpus: Corpus,
    cache: AudioCache,
    recipe: Recipe,
    *,
    start_step: int = 0,
    device: torch.device | str = "cpu",
    places: range | None = None,
    neighbours: int = 1,
) -> Iterator[Batch]:
    """Yields the batches of the steps from `start_step` to the recipe's last.

    Step k takes the places k·B … (k+1)·B − 1 of the corpus in an endless sequence of random
    permutations. Every random choice depends on the seed, the step and the place in the batch, so
    that neither the number of workers nor resuming changes a batch, and processes that share it
    out make the same batch together.

    Args:
        corpus: Training speakers.
        cache: Their audio.
        recipe: `seed`, `front_end.sample_rate`, `data.crop_seconds`, `augment` and `training` are
            read.
        start_step: First step.
        device: Where the batches will go; for CUDA they are in pinned memory.
        places: The places in the batch that are wanted; all by default.
        neighbours: Processes on this machine that read batches at the same time.

    Yields:
        Waveforms `(B, crop_samples)`, float32 in [-1, 1], and labels `(B,)`, int64: position of the
        speaker in `corpus.speakers` + number of speakers × position of the speed in the recipe.
        In the large-margin phase the crops are longer and all of them at the speed 1.

    Raises:
        SparsifyError: No utterance of some speaker can be decoded (when decoding on demand).
    """
    workers = recipe.training.workers
    workers = default_workers(neighbours) if workers is None else workers
    loader = DataLoader(
        CropBatches(corpus, cache, recipe, places),
        batch_size=None,
        sampler=range(start_step, recipe.training.steps),
        num_workers=workers,
        prefetch_factor=_PREFETCH if workers else None,
        multiprocessing_context=PROCESSES if workers else None,
        worker_init_fn=_prepare_worker,
        pin_memory=torch.device(device).type == "cuda",
        # Of its own, for the loader draws a number and would move the global generator.
        generator=torch.Generator(),
    )
    for item in _fetched(loader):
        if isinstance(item, SparsifyError):
            raise item
        yield item


def _fetched(loader: DataLoader[Batch | SparsifyError]) -> Iterator[Batch | SparsifyError]:
    """What the loader gives; that one of its processes was killed is explained.

    Raises:
        SparsifyError: One was.
    """
    # torch would raise from a signal handler, wherever the training is at that moment. Without it
    # the loader notices within seconds, when a batch is wanted that does not come.
    handler = signal.getsignal(signal.SIGCHLD) or signal.SIG_DFL
    items = iter(loader)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler)
    while True:
        try:
            item = next(items, None)
        except (RuntimeError, OSError, EOFError) as error:
            # What a dataset raises in a process of the loader arrives as "Caught … in …".
            if not loader.num_workers or str(error).startswith("Caught "):
                raise
            raise SparsifyError(
                f"a process that loads batches has ended ({error}), as it does when it is killed"
                " because memory runs out: use fewer of them (--set training.workers=1, or 0 for"
                " none) or a machine with more memory, and go on with --resume"
            ) from error
        if item is None:
            return
        yield item


def default_workers(neighbours: int = 1) -> int:
    """Loader processes that leave the model at least half of a process's share of the cores."""
    return min(_MOST_WORKERS, available_cores() // neighbours // 2)


class CropBatches(Dataset[Batch | SparsifyError]):
    """Map from a step to its batch; errors are returned, for a worker would wrap a raised one.

    Args:
        corpus: Training speakers.
        cache: Their audio.
        recipe: See `training_batches`.
        places: The places in the batch that are wanted; all by default.
    """

    def __init__(
        self, corpus: Corpus, cache: AudioCache, recipe: Recipe, places: range | None = None
    ) -> None:
        self.recipe = recipe
        self.cache = cache
        self.places = range(recipe.training.batch_size) if places is None else places
        self.augment = Augmenter(recipe.augment, recipe.front_end.sample_rate)
        self.utterances = corpus.utterances
        self.labels = {speaker: label for label, speaker in enumerate(corpus.speakers)}
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.recipe.training.steps

    def __getitem__(self, step: int) -> Batch | SparsifyError:
        """The batch of a step."""
        samples = crop_samples(self.recipe, step)
        first = step * self.recipe.training.batch_size
        rngs = [
            np.random.default_rng([self.recipe.seed, _CROP, step, place]) for place in self.places
        ]
        chosen = [self.utterance(first + place) for place in self.places]
        speeds = self._speeds(step, rngs)
        waveforms = np.empty((len(rngs), samples), dtype=np.float32)
        try:
            for index, speed in enumerate(self.recipe.speeds):
                rows = np.flatnonzero(speeds == index)
                if len(rows):
                    length = source_samples(speed, samples)
                    crops = [self._crop(chosen[row], rngs[row].random(), length) for row in rows]
                    waveforms[rows] = change_speed(np.stack(crops), speed, samples)
            for row, rng in enumerate(rngs):
                waveforms[row] = self.augment(rng, waveforms[row])
        except SparsifyError as error:
            return error
        speakers = np.array([self.labels[utterance.speaker] for utterance in chosen])
        labels = speakers + len(self.labels) * speeds
        return torch.from_numpy(waveforms), torch.from_numpy(labels.astype(np.int64))

    def _speeds(self, step: int, rngs: Sequence[np.random.Generator]) -> npt.NDArray[np.int64]:
        """Positions of the speeds in the recipe."""
        if step >= self.recipe.large_margin_begins:
            return np.full(len(rngs), self.recipe.speeds.index(1.0))
        return np.array([rng.integers(len(self.recipe.speeds)) for rng in rngs])

    def utterance(self, place: int) -> Utterance:
        """The utterance at a place of the endless sequence of permutations."""
        epoch, index = divmod(place, len(self.utterances))
        if epoch != self._epoch:
            rng = np.random.default_rng([self.recipe.seed, _EPOCH, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self.utterances))
        return self.utterances[self._order[index]]

    def _crop(self, utterance: Utterance, position: float, length: int) -> Samples:
        """A crop of the utterance or, if that is broken, of the speaker's next intact one."""
        for candidate in self._same_speaker(utterance):
            if candidate.key in self.cache.broken:
                continue
            try:
                return self.cache.crop(candidate, position, length)
            except SparsifyError as error:
                self.cache.broken.report(candidate.key, error)
        raise SparsifyError(
            f"no utterance of speaker {utterance.speaker} can be decoded: repair or remove them"
        )

    def _same_speaker(self, utterance: Utterance) -> Iterator[Utterance]:
        """The utterance, then the speaker's others in order."""
        yield utterance
        places = np.flatnonzero(self.utterances.labels == self.labels[utterance.speaker])
        same = [self.utterances[place] for place in places.tolist()]
        first = same.index(utterance)
        yield from same[first + 1 :] + same[:first]


def _prepare_worker(worker: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    # Ctrl-C reaches the whole process group; the parent stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A thread that hands batches over fails when the parent goes in the middle of it. Errors of a
    # batch itself are raised in the parent.
    sys.excepthook = lambda *_: None
