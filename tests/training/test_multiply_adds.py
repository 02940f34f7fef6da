"""A target in multiply-adds, against what `inspect` counts of the finished file."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.seals import source_digest
from sparsify.errors import SparsifyError
from sparsify.exporters.counting import count_work
from sparsify.recipe.recipe import load_recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training.multiply_adds import multiply_adds_of
from sparsify.training.starting_network import start_of
from sparsify.training.trainer import train

TINY = [
    "model.options={channels: 16, aggregation_channels: 32, embedding_dim: 16}",
    "data={synthetic_speakers: 6, synthetic_utterances: 3, validation_speakers: 2}",
    "data.crop_seconds=0.4",
    "training={steps: 8, batch_size: 8, log_every: 2, validate_every: 2, workers: 0}",
    "training.batch_norm_batches=2",
]


def tiny(share=0.2, *more):
    changes = {"target_sparsity": None, "target_macs": share}
    return load_recipe("quickstart", [*TINY, *more], changes)


def work_in(path):
    artifact = load_artifact(path)
    work = count_work(artifact).of(weights_table(artifact).layers)
    return work.multiply_adds - work.by_zeros, work.multiply_adds


def test_a_run_ends_with_its_share_and_resumes_exactly(tmp_path, stop_at):
    summary = train(tiny(), tmp_path / "run")
    left, total = work_in(tmp_path / "run")
    assert summary["macs"] == left / total
    dearest = 200  # of a weight in a convolution, for as many frames
    assert total / 5 - dearest < left <= total / 5
    assert (summary["target_sparsity"], summary["target_macs"]) == (None, 0.2)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "resumed", observer=stop_at(3))
    train(tiny(), tmp_path / "resumed", resume=True)
    digests = [source_digest(load_artifact(tmp_path / n).arrays) for n in ("run", "resumed")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("ignore", ["[]", "[linear.weight]"])
@pytest.mark.parametrize("share", [0.07, 0.29, 0.5])
def test_what_is_asked_of_the_prunable_weights(share, ignore):
    recipe = tiny(share, f"model.ignore={ignore}")
    start = start_of(recipe)
    work = start.multiply_adds
    names = prunable_parameters(start.network, recipe.model.ignore)
    own = sum(torch.as_tensor(work.costs[n]).expand(p.shape).sum() for n, p in names.items())
    kept = work.total - round(start.target_sparsity * int(own))
    assert kept <= Fraction(str(share)) * work.total < kept + 1
    assert work.left(start.network) == 1


def test_more_protected_than_asked_for_is_refused():
    with pytest.raises(SparsifyError, match=r"target_macs 0\.01 is less than what the weights"):
        start_of(tiny(0.01, "model.ignore=[conv.weight]"))


def test_a_network_that_cannot_be_counted_is_refused():
    class Scaled(nn.Linear):
        def forward(self, feats):
            return nn.functional.linear(feats.mean(1), 2 * self.weight)

    with pytest.raises(
        SparsifyError, match=r"target_macs: the multiply-adds of .* give target_spa"
    ):
        multiply_adds_of(tiny(), Scaled(80, 16))


def test_there_is_one_target():
    assert load_recipe("quickstart").target_sparsity == 0.9
    assert tiny().target_sparsity is None
    with pytest.raises(SparsifyError, match="exclude each other"):
        load_recipe("quickstart", ["target_sparsity=0.9", "target_macs=0.1"])
    with pytest.raises(SparsifyError, match="no target: give"):
        load_recipe("quickstart", ["target_sparsity=null"])
