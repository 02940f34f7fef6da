"""The training loop, the same for every method."""

from __future__ import annotations

import fnmatch
import logging
import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from sparsify.artifact import load_artifact, save_model, weights_table
from sparsify.errors import SparsifyError
from sparsify.methods.base import Method, Task
from sparsify.methods.registry import build_method, method_options
from sparsify.models.registry import build_model
from sparsify.progress import Track, silent
from sparsify.recipe import Recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import SparsityTable, sparsity_table
from sparsify.speech.batches import Batch, num_classes, training_batches
from sparsify.speech.features import Filterbank
from sparsify.training.compute import Compute, choose_compute, compiled
from sparsify.training.data import SpeechData, load_data
from sparsify.training.meter import Meter
from sparsify.training.objectives import AAMSoftmax, learning_rate_at, margin_at
from sparsify.training.run_directory import RunDirectory
from sparsify.training.selection import Best, on_target, validation_figures

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class Observer:
    """Hears of a run while it goes on; this one ignores it all."""

    def started(self, header: Record, first_step: int) -> None:
        """The run is about to take the step after `first_step`."""

    def stepped(self, step: int) -> None:
        """A step is done."""

    def logged(self, record: Record) -> None:
        """A record was written to the metrics."""


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = False,
    strict: bool = False,
    observer: Observer | None = None,
    track: Track = silent,
) -> Record:
    """Trains a network to the recipe's sparsity and writes a run directory.

    Args:
        recipe: What to train, on what, and how.
        output: The run directory; must not hold a run unless `resume`.
        device: Where to compute.
        resume: Go on from the run's checkpoint; the result is that of an uninterrupted run.
        strict: Treat unusable audio files as errors instead of leaving them out.
        observer: Hears of the progress.
        track: Shows the progress of loading.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        SparsifyError: Recipe, data or output are unusable, or training diverges.
    """
    method_options(recipe)  # refuse a mistake before hours of loading
    run = RunDirectory(Path(output))
    if not resume:
        run.check_free()
    compute = choose_compute(device, recipe.training.precision)
    data = load_data(recipe, strict=strict, track=track)
    trainer = Trainer(recipe, compute, data, run, observer or Observer())
    if not resume:
        run.create(recipe)
    return trainer.run_all()


class Trainer:
    """One run: its network, its method and its books."""

    def __init__(
        self,
        recipe: Recipe,
        compute: Compute,
        data: SpeechData,
        run: RunDirectory,
        observer: Observer,
    ) -> None:
        self.recipe = recipe
        self.compute = compute
        self.data = data
        self.run = run
        self.observer = observer
        self.steps = recipe.training.steps
        torch.manual_seed(recipe.seed)
        network = build_model(recipe.model.name, **recipe.model.options)
        _check_ignore(network, recipe)
        if recipe.model.init_from is not None:
            load_artifact(recipe.model.init_from).load_into(network, recipe.front_end)
        self.filterbank = Filterbank(recipe.front_end).to(compute.device)
        classes = num_classes(data.train, recipe)
        head = AAMSoftmax(_embedding_dim(network, recipe), classes, recipe.objective.scale)
        self.network = network.to(compute.device)
        self.head = head.to(compute.device)
        compiles = recipe.training.compile
        self.forward = compiled(self.network, compute) if compiles else self.network
        task = Task(
            self.network,
            self.head,
            recipe.target_sparsity,
            recipe.model.ignore,
            self.steps,
            recipe.seed,
            pretrained=recipe.model.init_from is not None,
        )
        self.method: Method[Any] = build_method(recipe, task)
        self.peak_rates = [group["lr"] for group in self.method.optimizer.param_groups]
        self.best = Best()
        self.seconds = 0.0
        self.data_wait = 0.0

    def run_all(self) -> Record:
        """Runs from the checkpoint, if there is one, to the end; returns the summary."""
        first = self._restore()
        self.observer.started(self._header(), first)
        meter = Meter(self.compute.device)
        batches = training_batches(
            self.data.train,
            self.data.cache,
            self.recipe,
            start_step=first,
            device=self.compute.device,
        )
        start = time.perf_counter() - self.seconds
        training = self.recipe.training
        for step, (waveforms, labels) in enumerate(self._waiting(batches), first + 1):
            meter.add(*self._step(step, waveforms, labels))
            last = step == self.steps
            if last:
                self.method.finish()
            due = last or step % training.validate_every == 0
            self.observer.stepped(step)
            if due or step % training.log_every == 0:
                record = self._record(step, meter)
                if due:
                    record |= self._validate(step)
                self.run.log(record)
                self.observer.logged(record)
            self.seconds = time.perf_counter() - start
            if due:
                self._save(step)
        summary = self._summary()
        self.run.write_summary(summary)
        return summary

    def _step(self, step: int, waveforms: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        progress = step / self.steps
        training, objective = self.recipe.training, self.recipe.objective
        share = learning_rate_at(progress, training.warmup, training.final_lr)
        for group, peak in zip(self.method.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * share
        self.head.margin = margin_at(progress, objective.margin, objective.margin_ramp)
        self.network.train()
        device = self.compute.device
        with torch.no_grad():
            feats = self.filterbank(waveforms.to(device, non_blocking=True))
        with self.compute.autocast():
            embeddings = self.forward(feats)
        loss, accuracy = self.head(embeddings.float(), labels.to(device, non_blocking=True))
        self.method.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(
            [*self.network.parameters(), *self.head.parameters()], training.gradient_clip
        )
        self.method.step()
        return loss.detach(), accuracy

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

    def _record(self, step: int, meter: Meter) -> Record:
        loss, accuracy = meter.read()
        if not math.isfinite(loss):
            raise SparsifyError(
                f"training diverged before step {step} (loss {loss}):"
                f" lower methods.{self.recipe.method}.lr"
            )
        return {
            "step": step,
            "epoch": self._epochs(step),
            "loss": loss,
            "accuracy": accuracy,
            "sparsity": self._table().sparsity,
            "sparsity_target": self.method.sparsity_target(step),
            "lambda": self.method.lam,
            "weight_norm": self._weight_norm(),
            "lr": self.method.optimizer.param_groups[0]["lr"],
            "margin": self.head.margin,
        }

    def _validate(self, step: int) -> Record:
        last = step == self.steps
        table, target = self._table(), self.method.target_sparsity
        ready = self.method.settled and on_target(table, target)
        self._estimate_batch_norm(step)
        figures = validation_figures(self.network, self.data, self.compute.device)
        selected = self.best.takes(step, figures, ready=ready)
        if last and not on_target(table, target):
            logger.warning("the sparsity is %.4f instead of %.4f", table.sparsity, target)
        if last and not self.best.step:
            self.best = Best(step, figures)
            selected = True
        if selected:
            save_model(self.network, self.run.model_file, self.recipe)
        return figures | {"selected": selected}

    def _estimate_batch_norm(self, step: int) -> None:
        """Averages the statistics of batch norm anew over the last batches, in float32.

        The running averages of training are those of bfloat16 activations, with older weights. Few
        weights and a bias make channels whose mean is a hundred times their deviation. Rounding
        shifts such a mean by a good part of a deviation, and a network that computes in float32, as
        the delivered one does, can lose all its accuracy by that (docs/optimizers.md). The cure is
        known as precise batch norm (Wu & Johnson 2021, arXiv 2105.07576).
        """
        count = min(self.recipe.training.batch_norm_batches, step)
        if not count:
            return
        device = self.compute.device
        batches = training_batches(
            self.data.train, self.data.cache, self.recipe, start_step=step - count, device=device
        )
        feats = (self.filterbank(waveforms.to(device)) for waveforms, _ in islice(batches, count))
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # for dropout
            update_bn(feats, self.network)

    def _restore(self) -> int:
        state = self.run.load_checkpoint(self.compute.device)
        if state is None:
            self.run.forget_after(0)
            return 0
        try:
            self.network.load_state_dict(state["network"])
            self.head.load_state_dict(state["head"])
            self.method.load_state_dict(state["method"])
            self.best = Best(**state["best"])
            self.seconds, self.data_wait = state["seconds"], state["data_wait"]
            torch.set_rng_state(state["rng"].cpu())
            self.run.forget_after(state["step"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise SparsifyError(
                f"the checkpoint in '{self.run.path}' does not fit: the data, the model or sparsify"
                f" has changed since the run began, start it anew in another --output ({error})"
            ) from error
        return int(state["step"])

    def _save(self, step: int) -> None:
        self.run.save_checkpoint(
            {
                "step": step,
                "network": self.network.state_dict(),
                "head": self.head.state_dict(),
                "method": self.method.state_dict(),
                "best": vars(self.best),
                "rng": torch.get_rng_state(),
                "seconds": self.seconds,
                "data_wait": self.data_wait,
            }
        )

    def _weight_norm(self) -> float:
        weights = prunable_parameters(self.network, self.recipe.model.ignore).values()
        return float(nn.utils.get_total_norm([weight.detach() for weight in weights]))

    def _table(self) -> SparsityTable:
        return sparsity_table(self.network, self.recipe.model.ignore)

    def _epochs(self, step: int) -> float:
        seen = step * self.recipe.training.batch_size
        return round(seen / len(self.data.train.utterances), 3)

    def _header(self) -> Record:
        table = self._table()
        train = self.data.train
        return {
            "compute": str(self.compute),
            "compiled": self.forward is not self.network,
            "model": self.recipe.model.name,
            "model_options": self.recipe.model.options,
            "parameters": table.parameters,
            "prunable": sum(layer.parameters for layer in table.prunable),
            "method": self.recipe.method,
            "target_sparsity": self.method.target_sparsity,
            "data": self.recipe.data.path,
            "speakers": len(train.speakers),
            "utterances": len(train.utterances),
            "hours": train.seconds / 3600,
            "validation_speakers": self.recipe.data.validation_speakers,
            "validation_trials": len(self.data.trials),
            "skipped": len(self.data.skipped),
            "steps": self.steps,
        }

    def _summary(self) -> Record:
        # The selected model may be of an earlier step, but on target its counts can differ too:
        # report those of the file that is delivered.
        table = weights_table(load_artifact(self.run.model_file))
        return {
            "method": self.recipe.method,
            "target_sparsity": self.method.target_sparsity,
            "sparsity": table.sparsity,
            "global_sparsity": table.global_sparsity,
            **self.best.figures,
            "steps": self.steps,
            "epochs": self._epochs(self.steps),
            "seconds": round(self.seconds, 2),
            "device": str(self.compute),
            "seed": self.recipe.seed,
            "model": self.recipe.model.name,
            "parameters": table.parameters,
            "nonzero": table.nonzero,
            "output": str(self.run.path),
            "selected_step": self.best.step,
            "data_wait_seconds": round(self.data_wait, 2),
            "skipped": len(self.data.skipped),
        }


def _check_ignore(network: nn.Module, recipe: Recipe) -> None:
    """Refuses patterns that protect nothing, which are typos, and those that leave nothing."""
    names = [name for name, _ in network.named_parameters()]
    for pattern in recipe.model.ignore:
        if not fnmatch.filter(names, pattern):
            raise SparsifyError(
                f"model.ignore: no parameter of '{recipe.model.name}' is called '{pattern}':"
                " sparsify inspect RUN --all lists their names"
            )
    if not prunable_parameters(network, recipe.model.ignore):
        raise SparsifyError(
            f"nothing is left to prune in '{recipe.model.name}': it has no convolutions or linear"
            " layers, or model.ignore protects them all"
        )


def _embedding_dim(network: nn.Module, recipe: Recipe) -> int:
    """Size of the embedding, found by trying; a network that does not fit the data is refused."""
    feats = torch.zeros(2, 100, recipe.front_end.num_mel_bins)
    network.eval()
    try:
        with torch.inference_mode():
            shape = network(feats).shape
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise SparsifyError(
            f"model '{recipe.model.name}' does not accept features (B, T,"
            f" {recipe.front_end.num_mel_bins}): {error}"
        ) from error
    if len(shape) != 2 or shape[0] != 2:
        raise SparsifyError(
            f"model '{recipe.model.name}' must map features (B, T, F) to embeddings (B, D),"
            f" but (2, 100, {recipe.front_end.num_mel_bins}) gave {tuple(shape)}"
        )
    return int(shape[1])
