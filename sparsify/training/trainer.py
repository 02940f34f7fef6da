"""The training loop, the same for every method."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from torch import Tensor, nn

from sparsify.artifact.saving import save_model
from sparsify.errors import NotFiniteError
from sparsify.methods.registry import check_start, resolve
from sparsify.progress import Track, silent
from sparsify.recipe.recipe import Recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import no_weight_left
from sparsify.training.averaging import Finalists, average_weights, same_zeros
from sparsify.training.batch_norm import average_batch_norm, estimate_batch_norm
from sparsify.training.batches import Batch, training_batches
from sparsify.training.checkpoints import fitting
from sparsify.training.collapse import collapse_of
from sparsify.training.compute import choose_compute
from sparsify.training.data import SpeechData, load_data, warn_of_long_crops
from sparsify.training.devices import Device
from sparsify.training.distributed import processes
from sparsify.training.event_files import EventFiles, check_event_files
from sparsify.training.learner import Learner
from sparsify.training.mean_embedding import mean_embedding
from sparsify.training.meter import Meter
from sparsify.training.model_selection import (
    Best,
    Figures,
    error_rate,
    validation_figures,
)
from sparsify.training.observer import Observer, Observers
from sparsify.training.origin import Origin, files_of, list_digest, settings_of
from sparsify.training.records import Record, diverged, header, run_summary, step_record
from sparsify.training.run_directory import RunDirectory, State
from sparsify.training.starting_network import start_of_run

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    accept_changes: bool = False,
    strict: bool = False,
    trust: bool = False,
    observer: Observer | None = None,
    track: Track = silent,
) -> Record:
    """Trains a network to the recipe's sparsity and writes a run directory.

    Where `torch.distributed` is initialised, its processes train together; all of them call this.

    Args:
        recipe: What to train, on what, and how.
        output: The run directory; must not hold a run unless `resume`. The main process's alone.
        device: Where to compute.
        resume: Go on from the run's checkpoint; the result is that of an uninterrupted run. A run
            that is complete is left as it is.
        accept_changes: Go on though recipe or files are not those that the run began with, and list
            them in the summary as `changed_at_resume`.
        strict: Treat unusable audio files as errors instead of leaving them out.
        trust: Whether the file of a teacher may name code as its network. The network of the recipe
            is the caller's choice.
        observer: Hears of the progress.
        track: Shows the progress of loading.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        SparsifyError: Recipe, data or output are unusable, or training diverges.
    """
    run, together = RunDirectory(Path(output)), processes()
    # Refuses a mistake before hours of loading.
    recipe = resolve(recipe).in_pieces(together.count)
    together.from_main(run.check_begun if resume else run.check_free)
    together.from_main(lambda: check_event_files(recipe))
    compute = choose_compute(device, recipe.training.precision, together.local_rank)
    with ExitStack() as alone:
        if resume:
            if together.main:
                alone.enter_context(run.locked())
            finished = together.from_main(run.complete)
            if finished is not None:
                return finished
        saved = together.from_main(run.load_checkpoint) if resume else None
        with fitting(run.path):
            begun = None if saved is None else saved["origin"]
            origin = Origin(run.path, begun, accept_changes=accept_changes)
        together.from_main(lambda: origin.take("settings", settings_of(recipe)))
        together.from_main(lambda: origin.take_compute(compute, together.count))
        start = start_of_run(recipe, run, together, resume=resume)
        check_start(recipe, start.task(recipe, nn.Identity()))
        data = load_data(recipe, strict=strict, neighbours=together.local_count, track=track)
        if together.main:
            warn_of_long_crops(recipe, data.train)
        if together.count > 1:
            together.check_same(list_digest(data.train), "the training utterances")
        together.from_main(lambda: origin.take("files", files_of(recipe, data)))
        learner = Learner(recipe, compute, together, len(data.train.speakers), start, trust=trust)
        if together.main and not resume:
            alone.enter_context(run.locked())
            run.check_free()  # another may have begun and even ended meanwhile
            run.create(recipe, start.weights, origin.state_dict())
        observers = [] if observer is None else [observer]
        if together.main and recipe.training.tensorboard:
            observers.append(alone.enter_context(closing(EventFiles(run.path))))
        trainer = Trainer(learner, data, run, origin, Observers(observers))
        first = 0 if saved is None else trainer.restore(saved)
        del saved  # as large as the model and its optimizer
        return trainer.run_all(first)


class Trainer:
    """One run: its learner, its data and its books."""

    def __init__(
        self,
        learner: Learner,
        data: SpeechData,
        run: RunDirectory,
        origin: Origin,
        observer: Observer,
    ) -> None:
        self.learner = learner
        self.recipe = learner.recipe
        self.processes = learner.processes
        self.data = data
        self.run = run
        self.origin = origin
        self.observer = observer
        self.steps = self.recipe.training.steps
        self.best = Best()
        self.finalists = Finalists(self.recipe.training.average, self.recipe.training.average_of)
        self.seconds = 0.0
        self.data_wait = 0.0

    def run_all(self, first: int) -> Record:
        """Runs from the step after `first` to the end; returns the summary."""
        self.observer.started(header(self.learner, self.data), first)
        meter = Meter(self.processes)
        start = time.perf_counter() - self.seconds
        training = self.recipe.training
        for step, batch in enumerate(self._waiting(self._batches(first)), first + 1):
            last = step == self.steps
            try:
                meter.add(self.learner.update(step, batch))
                if last:
                    self.learner.method.finish()
            except NotFiniteError as error:
                raise diverged(self.recipe, step, str(error)) from error
            due = last or step % training.validate_every == 0
            self.observer.stepped(step)
            if due or step % training.log_every == 0:
                record = step_record(self.learner, step, meter.read(), self._epochs(step))
                if due:
                    record |= self._validate(step)
                if self.processes.main:
                    self.run.log(record)
                self.observer.logged(record)
            self.seconds = time.perf_counter() - start
            if due:
                self._save(step)
        averaged = self._average()
        broken = self._broken()
        return self.processes.from_main(lambda: self._finish(averaged, broken))

    def _batches(self, start_step: int) -> Iterator[Batch]:
        return training_batches(
            self.data.train,
            self.data.cache,
            self.recipe,
            start_step=start_step,
            device=self.learner.compute.device,
            places=self.learner.places,
            neighbours=self.processes.local_count,
        )

    def _waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, with the time spent waiting for them booked."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(iterator, None)
            self.data_wait += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _validate(self, step: int) -> Record:
        method, last = self.learner.method, step == self.steps
        ready = method.settled and self._on_target()
        figures = self._figures(step)
        error = error_rate(figures)
        self.learner.learning_rate.validated(error)
        selected = self.best.takes(step, figures, ready=ready)
        if last and not self.best.step:
            self.best = Best(step, figures)
            selected = True
        taken = ready and self.finalists.takes(step, error)
        if self.processes.main:
            if last and not self._on_target():
                logger.warning(
                    "the sparsity is %s instead of %s",
                    method.task.in_words(method.priced.sparsity),
                    method.task.in_words(method.target_sparsity),
                )
            if selected:
                save_model(self.learner.network, self.run.model_file, self.recipe)
            if selected or taken:
                self.run.save_validated(step, self.learner.network.state_dict())
        return figures | {"selected": selected}

    def _figures(self, step: int) -> Figures:
        """Validates with batch-norm statistics of the last batches."""
        self.observer.began("validating")
        network = self.learner.network
        count = min(self.recipe.training.batch_norm_batches, step)
        self.learner.seed(step, 0)
        if count:
            batches = islice(self._batches(step - count), count)
            features = (f for waveforms, _ in batches for f in self.learner.features(waveforms))
            estimate_batch_norm(network, features, self.processes)
        else:
            average_batch_norm(network, self.processes)
        device, speech = self.learner.compute.device, self.data.validation
        try:
            return self.processes.from_main(lambda: validation_figures(network, speech, device))
        except NotFiniteError as error:
            raise diverged(self.recipe, step, str(error)) from error

    def _on_target(self) -> bool:
        method = self.learner.method
        return method.priced.on_target(method.target_sparsity, method.dearest)

    def _average(self) -> Record | None:
        """Averages the finalists and delivers that if it is no worse than the best of all."""
        if len(self.finalists.errors) < 2:
            if self.recipe.training.average > 1:
                logger.warning("nothing was averaged: fewer than two validated models qualify")
            return None
        self.observer.began("averaging models")
        steps, weights = self.processes.from_main(self._averaged)
        self.learner.network.load_state_dict(weights)
        figures = self._figures(self.steps)
        selected = self.best.takes(self.steps, figures, ready=self._on_target())
        if selected and self.processes.main:
            save_model(self.learner.network, self.run.model_file, self.recipe)
        record: Record = figures | {"steps": steps, "selected": selected}
        self.observer.averaged(record)
        return record

    def _averaged(self) -> tuple[list[int], dict[str, Tensor]]:
        """The average of those finalists that have the zeros of the last."""
        network, selection = self.learner.network, self.recipe.model.selection
        states = {step: self.run.load_validated(step) for step in self.finalists.errors}
        with fitting(self.run.path):
            steps = same_zeros(states, prunable_parameters(network, *selection))
        if len(steps) < len(states):
            logger.info(
                "averaging %d of %d models: others have other zeros", len(steps), len(states)
            )
        return steps, average_weights([states[step] for step in steps])

    def _broken(self) -> frozenset[int]:
        """Digests of the utterances that any process has found broken since the start."""
        return frozenset().union(*self.processes.gathered(self.data.cache.broken.digests))

    def _finish(self, averaged: Record | None, broken: frozenset[int]) -> Record:
        """Completes the delivered file and writes the summary."""
        network = self.learner.network
        if averaged is None or not averaged["selected"]:
            with fitting(self.run.path):
                network.load_state_dict(self.run.load_validated(self.best.step))
        self.observer.began("computing the mean embedding")
        mean = mean_embedding(
            network, self.data.train, self.data.cache, self.learner.filterbank, self.recipe.seed
        )
        if not mean.isfinite().all():
            raise diverged(self.recipe, self.steps, "the mean embedding is not finite")
        figures: Record = self.best.figures | {"selected_step": self.best.step}
        self.observer.began("looking for a collapse")
        device = self.learner.compute.device
        collapsed = collapse_of(network, self.data.validation, figures, device)
        save_model(
            network, self.run.model_file, self.recipe, embedding_mean=mean, collapsed=collapsed
        )
        if averaged is not None:
            figures["average"] = averaged
        table = self.learner.sparsity()
        if table.emptied:
            logger.warning(no_weight_left(table.emptied))
        skipped = len(self.data.skipped) + len(broken | self.data.cache.broken.digests)
        summary = run_summary(self.learner, table, figures, skipped) | {
            "epochs": self._epochs(self.steps),
            "seconds": round(self.seconds, 2),
            "data_wait_seconds": round(self.data_wait, 2),
            "output": str(self.run.path),
            "collapsed": collapsed,
            **({"changed_at_resume": self.origin.changed} if self.origin.changed else {}),
        }
        return self.run.write_summary(summary)

    def restore(self, saved: State) -> int:
        """Makes run and learner those of a checkpoint; returns the step that it was made after.

        Raises:
            SparsifyError: The checkpoint is of something else.
        """
        with fitting(self.run.path):
            step = int(saved["step"])
            if step > self.steps:
                raise ValueError(f"it was made after step {step} of {self.steps}")
            if step:
                self.learner.load_state_dict(saved["learner"])
                self.best = Best(**saved["best"])
                self.finalists.errors = saved["finalists"]
                self.seconds, self.data_wait = saved["seconds"], saved["data_wait"]
                self.data.cache.broken.remember(saved["broken"])
            if self.processes.main:
                self.run.rewind(saved)
        return step

    def _save(self, step: int) -> None:
        broken = self._broken()
        if not self.processes.main:
            return
        state = {
            "step": step,
            "learner": self.learner.state_dict(),
            "best": vars(self.best),
            "finalists": self.finalists.errors,
            "seconds": self.seconds,
            "data_wait": self.data_wait,
            "broken": sorted(broken),
            "origin": self.origin.state_dict(),
        }
        best = {self.best.step} if self.best.step else set()
        self.run.save_checkpoint(state, best.union(self.finalists.errors))

    def _epochs(self, step: int) -> float:
        seen = step * self.recipe.training.batch_size
        return round(seen / len(self.data.train.utterances), 3)
