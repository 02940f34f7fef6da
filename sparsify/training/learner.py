"""What learns: the network, its objective and its method; turns batches into updates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparsify.audio.features import Filterbank
from sparsify.augment.spec_augment import spec_augment
from sparsify.errors import SparsifyError
from sparsify.methods.base import Method
from sparsify.methods.registry import ResolvedRecipe, build_method
from sparsify.sparsity.counting import sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import SparsityTable
from sparsify.training.batches import Batch
from sparsify.training.compute import Compute, compiled
from sparsify.training.distillation import Teacher
from sparsify.training.distributed import Processes
from sparsify.training.learning_rate import LearningRate
from sparsify.training.objectives import AAMSoftmax, Objective, margin_at
from sparsify.training.quantisation_aware import QuantisationAware
from sparsify.training.sparse_convolution import available, leave_out_zeros
from sparsify.training.starting_network import StartingNetwork

State = dict[str, Any]


class Learner:
    """A network in training.

    All randomness of a step depends on the seed, the step and the piece of the batch alone, so that
    it needs no state, and no number of processes changes it.

    Args:
        recipe: What to train and how.
        compute: Where and how precisely.
        processes: Which of those that train together this one is.
        speakers: Number of training speakers.
        start: The network as the training begins; it becomes that of the learner.
        trust: Whether the file of the teacher may name code as its network.

    Attributes:
        network: The embedding network.
        method: Makes it sparse.
        gradients_of_zeros: Whether zeros have a gradient in a step, 0-dim, where the network leaves
            them out; `None` where it does not.
        forward: The network, compiled or with rounded numbers if the recipe says so.
        multiply_adds: Those of the network, where they are the target.
        learning_rate: Shape of the learning rate.
        speakers: Number of training speakers, without virtual ones.
        places: This process's part of every batch.
        overflows: Updates left out because gradients in fp16 overflowed.
    """

    def __init__(
        self,
        recipe: ResolvedRecipe,
        compute: Compute,
        processes: Processes,
        speakers: int,
        start: StartingNetwork,
        *,
        trust: bool = False,
    ) -> None:
        self.recipe = recipe
        self.compute = compute
        self.processes = processes
        training = recipe.training
        self.places, self.pieces = processes.shared(training.batch_size, training.micro_batches)
        size, distillation = start.embedding_dim, recipe.distillation
        torch.set_rng_state(start.random_state)
        self.teacher = None
        if distillation.teacher is not None:
            self.teacher = Teacher(
                distillation.teacher, recipe.front_end, size, compute, trust=trust
            )
        classifier = None
        if distillation.labels:
            classifier = AAMSoftmax(size, speakers * len(recipe.speeds), recipe.objective.scale)
        self.multiply_adds = start.multiply_adds
        self.network = start.network.to(compute.device)
        self.objective = Objective(classifier, distillation).to(compute.device)
        self.filterbank = Filterbank(recipe.front_end).to(compute.device)
        self.method: Method[Any] = build_method(recipe, start.task(recipe, self.objective))
        self.gradients_of_zeros = self._leave_out_zeros()
        self.forward = self.network
        if training.compiles:
            self.forward = compiled(self.network, compute)
        elif training.quantisation_aware:
            self.forward = QuantisationAware(self.network)
        self.model = processes.parallel(
            _Model(self.forward, self.objective, compute), compute.device
        )
        self.learning_rate = LearningRate(training)
        self.scaler = compute.scaler()
        self.overflows = 0
        self.speakers = speakers
        self._peaks = [group["lr"] for group in self.method.optimizer.param_groups]

    def update(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Takes a step, the first being 1.

        Args:
            step: Number of the step.
            batch: Waveforms and labels of this process's places.

        Returns:
            Means of the objective's values over the pieces, and the norm of the gradient before it
            is clipped; all 0-dim.
        """
        self._schedule(step)
        self.network.train()
        if self.gradients_of_zeros is not None:
            self.gradients_of_zeros.fill_(self.method.uses_gradients_of_zeros)
        self.method.optimizer.zero_grad()
        sums: dict[str, Tensor] = {}
        waveforms, labels_of_all = batch
        pieces = zip(self.examples(waveforms), labels_of_all.chunk(self.pieces), strict=True)
        for piece, ((feats, targets), labels) in enumerate(pieces):
            first = self.places.start + piece * len(labels)
            masked = spec_augment(
                feats,
                self.recipe.augment.spec_augment,
                self.recipe.seed,
                step - 1,
                range(first, first + len(labels)),
            )
            with self._synchronised(piece):
                self.seed(step, 1 + first // len(labels))
                values = self.model(masked, labels.to(feats.device), targets)
                self.scaler.scale(values["loss"] / self.pieces).backward()
            for name, value in values.items():
                sums[name] = sums.get(name, 0) + value.detach() / self.pieces
        self.seed(step, 0)  # the same in all processes, for a method that draws
        return sums | {"gradient_norm": self._apply_gradients()}

    def features(self, waveforms: Tensor) -> Iterator[Tensor]:
        """Features `(B / pieces, T, F)` of the pieces of a batch of waveforms."""
        return (feats for _, feats in self._heard(waveforms))

    def examples(self, waveforms: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The same, each with what the teacher makes of its piece, if there is one: `(B, D)`."""
        for heard, feats in self._heard(waveforms):
            yield feats, self.teacher(heard, feats) if self.teacher else None

    def seed(self, step: int, part: int) -> None:
        """Seeds what the network draws, such as dropout, in a part of a step."""
        sequence = np.random.SeedSequence([self.recipe.seed, step, part])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def sparsity(self) -> SparsityTable:
        """The layer-wise sparsity of the network now."""
        return sparsity_table(self.network, *self.recipe.model.selection)

    @property
    def margin(self) -> float:
        """The margin of the last step."""
        return self.objective.classifier.margin if self.objective.classifier else 0.0

    def state_dict(self) -> State:
        """Everything an update depends on besides recipe and data."""
        return {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "method": self.method.state_dict(),
            "learning_rate": self.learning_rate.state_dict(),
            "scaler": self.scaler.state_dict(),
            "overflows": self.overflows,
        }

    def load_state_dict(self, state: State) -> None:
        """Restores `state_dict()`."""
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.method.load_state_dict(state["method"])
        self.learning_rate.load_state_dict(state["learning_rate"])
        self.scaler.load_state_dict(state["scaler"])
        self.overflows = state["overflows"]

    def _leave_out_zeros(self) -> Tensor | None:
        training, compute = self.recipe.training, self.compute
        wanted = training.sparse_convolutions
        if wanted is True and compute.device.type != "cpu":
            raise SparsifyError(
                "training.sparse_convolutions needs a CPU: give --device cpu, or leave it at auto"
            )
        # In bf16 a CPU that has it multiplies by the zeros in less time than it takes to skip them.
        pays = (
            compute.device.type == "cpu"
            and compute.precision == "fp32"
            and not training.quantisation_aware
            and self.method.target_sparsity > 0
        )
        if not (wanted is True or (wanted == "auto" and pays)) or not available():
            return None
        selection = self.recipe.model.selection
        return leave_out_zeros(self.network, prunable_parameters(self.network, *selection))

    def _schedule(self, step: int) -> None:
        progress = step / self.recipe.training.steps
        share = self.learning_rate(progress)
        for group, peak in zip(self.method.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
        classifier, objective = self.objective.classifier, self.recipe.objective
        if classifier is None:
            return
        if step > self.recipe.large_margin_begins:
            first = self.recipe.speeds.index(1.0) * self.speakers
            classifier.among = range(first, first + self.speakers)
            classifier.margin = objective.large_margin.margin
        else:
            classifier.margin = margin_at(progress, objective.margin, objective.margin_ramp)

    def _heard(self, waveforms: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for part in waveforms.chunk(self.pieces):
            heard = part.to(self.compute.device, non_blocking=True)
            with torch.no_grad():
                feats = self.filterbank(heard)
            yield heard, feats

    def _synchronised(self, piece: int) -> AbstractContextManager[object]:
        """Gradients are averaged over the processes with the last piece."""
        if isinstance(self.model, DistributedDataParallel) and piece + 1 < self.pieces:
            return self.model.no_sync()
        return nullcontext()

    def _apply_gradients(self) -> Tensor:
        self._check_all_learn()
        self.method.mask_gradients()  # before it is looked whether any has overflowed
        self.scaler.unscale_(self.method.optimizer)
        norm = nn.utils.clip_grad_norm_(
            [*self.network.parameters(), *self.objective.parameters()],
            self.recipe.training.gradient_clip,
        )
        if self.scaler.is_enabled() and not norm.isfinite():
            self.overflows += 1  # the scale was too large; the next one is smaller
        else:
            self.method.step()
        self.scaler.update()
        return norm

    def _check_all_learn(self) -> None:
        if self.processes.count == 1:
            return
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                raise SparsifyError(
                    f"parameter '{name}' has no part in the embedding, which several processes"
                    " cannot train: remove it, or give it requires_grad=False"
                )


class _Model(nn.Module):
    """Network and objective as one module, for gradients that are averaged over processes."""

    def __init__(self, network: nn.Module, objective: Objective, compute: Compute) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.compute = compute

    def forward(self, feats: Tensor, labels: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
        with self.compute.autocast():
            embeddings = self.network(feats)
        values: dict[str, Tensor] = self.objective(embeddings.float(), labels, targets)
        return values
