"""What a run tells about itself: in the beginning, at every record, in the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import Recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import SparsityTable, left_dense
from sparsify.training.data import SpeechData
from sparsify.training.learner import Learner

Record = dict[str, Any]


def header(learner: Learner, data: SpeechData) -> Record:
    """What is trained on what, where and how precisely."""
    recipe, table = learner.recipe, learner.sparsity()
    return {
        "compute": str(learner.compute),
        "processes": learner.processes.count,
        "compiled": recipe.training.compiles and learner.forward is not learner.network,
        "sparse_convolutions": learner.gradients_of_zeros is not None,
        "model": recipe.model.name,
        "model_options": recipe.model.options,
        "parameters": table.parameters,
        "prunable": sum(layer.parameters for layer in table.prunable),
        "left_dense": left_dense(table, recipe.model.ignore),
        "method": recipe.method,
        **_target(learner),
        **start_record(learner),
        "data": recipe.data.path,
        "speakers": data.train.named_speakers,
        "utterances": len(data.train.utterances),
        "hours": data.train.seconds / 3600,
        "validation_speakers": data.validation.speakers,
        "validation_trials": len(data.validation.trials),
        "skipped": len(data.skipped),
        "steps": recipe.training.steps,
    }


def _target(learner: Learner) -> Record:
    """What the method pursues: a sparsity or, where they are the target, a share of multiply-adds.

    A method that pursues nothing has a target of no sparsity.
    """
    if learner.multiply_adds is None or not learner.method.pursues_target:
        return {"target_sparsity": learner.method.target_sparsity}
    return {"target_sparsity": None, "target_macs": learner.recipe.target_macs}


def start_record(learner: Learner) -> Record:
    """The trained model that it starts from: where, how sparse, and what becomes of its zeros."""
    method = learner.method
    if method.fate_of_zeros is None:
        return {}
    return {
        "start": {
            "path": learner.recipe.model.init_from,
            "sparsity": method.initial_sparsity,
            "zeros": method.fate_of_zeros,
        }
    }


def _macs(learner: Learner) -> Record:
    """The share of the multiply-adds that is left, where they are the target."""
    if learner.multiply_adds is None:
        return {}
    return {"macs": learner.multiply_adds.left(learner.network)}


def step_record(learner: Learner, step: int, means: Mapping[str, float], epoch: float) -> Record:
    """A line of the metrics.

    Args:
        learner: After the step.
        step: Its number.
        means: Of what the updates gave since the last record.
        epoch: Passes over the training utterances so far.

    Raises:
        SparsifyError: The loss is not finite, or a gradient that was not left out is not.
    """
    if not math.isfinite(means["loss"]):
        raise diverged(learner.recipe, step, f"loss {means['loss']}")
    gradient = means["gradient_norm"]
    if not math.isfinite(gradient) and not learner.scaler.is_enabled():
        raise diverged(learner.recipe, step, f"a gradient of norm {gradient}")
    weights = prunable_parameters(learner.network, *learner.recipe.model.selection).values()
    distillation = {"distillation": means["distillation"]} if "distillation" in means else {}
    return {
        "step": step,
        "epoch": epoch,
        "loss": means["loss"],
        "accuracy": means.get("accuracy"),
        **distillation,
        "sparsity": learner.sparsity().sparsity,
        **_macs(learner),
        "sparsity_target": None if learner.multiply_adds else learner.method.sparsity_target(step),
        "lambda": learner.method.lam,
        "weight_norm": float(nn.utils.get_total_norm([weight.detach() for weight in weights])),
        "gradient_norm": gradient if math.isfinite(gradient) else None,
        "lr": learner.method.optimizer.param_groups[0]["lr"],
        "margin": learner.margin,
    }


def diverged(recipe: Recipe, step: int, sign: str) -> SparsifyError:
    """The error of a run that has diverged; `sign` tells by what that was seen."""
    return SparsifyError(
        f"training diverged before step {step} ({sign}): lower methods.{recipe.method}.lr"
    )


def run_summary(
    learner: Learner, table: SparsityTable, figures: Mapping[str, Any], skipped: int
) -> Record:
    """The outcome of a run.

    Args:
        learner: After the last step.
        table: Of the delivered model, which may be of an earlier step.
        figures: Of the delivered model's validation.
        skipped: Utterances left out, in the beginning or when they turned out broken.
    """
    recipe = learner.recipe
    return {
        "method": recipe.method,
        **_target(learner),
        **start_record(learner),
        "sparsity": table.sparsity,
        "global_sparsity": table.global_sparsity,
        **_macs(learner),
        **figures,
        "steps": recipe.training.steps,
        "rounds": learner.method.rounds,
        "device": str(learner.compute),
        "processes": learner.processes.count,
        "seed": recipe.seed,
        "model": recipe.model.name,
        "parameters": table.parameters,
        "nonzero": table.nonzero,
        "skipped": skipped,
        "overflows": learner.overflows,
    }
