"""A process of a training; torchrun starts several, and test_distributed.py looks at the outcome.

`runs FOLDER` makes a whole run and one that stops halfway; `fail ARGUMENTS` is the command line
with a second process that breaks down.
"""

import os
import sys
from pathlib import Path

from sparsify.cli.main import main
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import load_recipe
from sparsify.training.distributed import Joined
from sparsify.training.learner import Learner
from sparsify.training.observer import Observer
from sparsify.training.trainer import train

TINY = [
    "model.options={channels: 16, aggregation_channels: 32, embedding_dim: 16}",
    "data={synthetic_speakers: 6, synthetic_utterances: 3, validation_speakers: 2}",
    "data.crop_seconds=0.4",
    "augment={reverb_share: 0.5, spec_augment: {probability: 0.5}}",
    "objective.large_margin={begin: 0.8, crop_seconds: 0.6}",
    "training={steps: 10, batch_size: 8, log_every: 1, validate_every: 2}",
    "training.precision=fp32",
    "training.average=2",
    "training.workers=0",
    # At higher rates rounding grows tenfold in a step.
    "methods.linbreg.lr=0.003",
    "methods.adabreg.lr=0.0003",
]


class StopAt(Observer):
    """Interrupts a run as Ctrl-C would."""

    def __init__(self, step):
        self.step = step

    def stepped(self, step):
        if step == self.step:
            raise KeyboardInterrupt


def tiny(method, micro_batches):
    changes = {"method": method, "training.micro_batches": micro_batches}
    return load_recipe("quickstart", TINY, changes)


def runs(folder):
    with Joined():
        train(tiny("linbreg", 4), folder / "together", device="cpu")
        try:
            train(tiny("adabreg", 1), folder / "stopped", device="cpu", observer=StopAt(5))
        except KeyboardInterrupt:
            return


def fail(arguments):
    update = Learner.update

    def update_or_fail(self, step, batch):
        if step == 5 and os.environ["RANK"] == "1":
            raise SparsifyError("the second process is broken")
        return update(self, step, batch)

    Learner.update = update_or_fail
    main(arguments)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    runs(Path(arguments[0])) if what == "runs" else fail(arguments)
