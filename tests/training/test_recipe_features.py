"""Averaging, large margin, distillation and starting weights in whole small runs."""

import json
import shutil

import pytest
import torch
from torch import nn

from sparsify.artifact.loading import load_artifact, load_model
from sparsify.artifact.saving import save_model
from sparsify.artifact.seals import source_digest
from sparsify.audio.features import Filterbank
from sparsify.errors import SparsifyError
from sparsify.methods.registry import resolve
from sparsify.models.registry import Architecture, build_model
from sparsify.recipe.recipe import load_recipe
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training import learner as learner_module
from sparsify.training.compute import Compute, choose_compute
from sparsify.training.data import load_data
from sparsify.training.distillation import Teacher
from sparsify.training.distributed import Processes
from sparsify.training.learner import Learner
from sparsify.training.starting_network import start_of
from sparsify.training.trainer import train

OPTIONS = {"channels": 16, "aggregation_channels": 32, "embedding_dim": 16}
TINY = [
    f"model.options={OPTIONS}",
    "data={synthetic_speakers: 6, synthetic_utterances: 3, validation_speakers: 2}",
    "data.crop_seconds=0.4",
    "training={steps: 8, batch_size: 8, log_every: 2, validate_every: 2, workers: 0}",
    "training.batch_norm_batches=2",
]


def tiny(*more, **changes):
    return load_recipe("quickstart", [*TINY, *more], changes)


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def digest(run):
    return source_digest(load_artifact(run).arrays)


def averaging(method):
    changes = {"method": method, "methods.gmp": {"end": 0.3, "every": 1}}
    return tiny("training.steps=10", "training.average=3", **changes)


def test_that_nothing_could_be_averaged_is_said(tmp_path, caplog):
    train(tiny("training.steps=4", "training.validate_every=4", "training.average=3"), tmp_path)
    assert "nothing was averaged: fewer than two" in caplog.text


@pytest.mark.parametrize("method", ["adabreg", "gmp"])
def test_average_of_landed_models_keeps_their_zeros(method, tmp_path, monkeypatch):
    equal = {"eer_percent": 1.0, "min_dcf": 1.0}  # of equals the latest is delivered: the average
    monkeypatch.setattr("sparsify.training.trainer.validation_figures", lambda *_: equal)
    summary = train(averaging(method), tmp_path / "run")
    assert summary["average"]["selected"]
    steps = summary["average"]["steps"]
    assert steps == {"adabreg": [8, 10], "gmp": [6, 8, 10]}[method]
    files = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert files >= {"start.pt", "last.pt", "previous.pt"} | {f"step-{step}.pt" for step in steps}
    states = [torch.load(tmp_path / "run" / "checkpoints" / f"step-{step}.pt") for step in steps]
    delivered = load_artifact(tmp_path / "run")
    names = list(prunable_parameters(delivered.build()))
    for name in names:
        mean = torch.stack([state[name] for state in states]).mean(0)
        torch.testing.assert_close(delivered.state[name], mean)
        assert torch.equal(delivered.state[name] == 0, states[-1][name] == 0)
    assert not all(torch.equal(states[0][name], states[-1][name]) for name in names)
    zeros = sum(int((delivered.state[name] == 0).sum()) for name in names)
    size = sum(delivered.state[name].numel() for name in names)
    assert zeros >= 0.9 * size > zeros - size / 1000


def test_averaging_is_resumed_exactly(tmp_path, stop_at):
    recipe = averaging("adabreg")
    summary = train(recipe, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", observer=stop_at(9))
    assert train(recipe, tmp_path / "resumed", resume=True)["average"] == summary["average"]
    assert digest(tmp_path / "run") == digest(tmp_path / "resumed")


def test_large_margin_phase(tmp_path):
    recipe = tiny(
        "objective.large_margin={begin: 0.5, margin: 0.4, crop_seconds: 0.6}",
        "training.log_every=1",
    )
    train(recipe, tmp_path / "run")
    margins = [record["margin"] for record in records(tmp_path / "run")]
    assert margins[3] == pytest.approx(0.2)
    assert margins[4:] == [0.4] * 4


def test_large_margin_needs_the_plain_speed():
    with pytest.raises(SparsifyError, match=r"1\.0 among augment\.speeds"):
        tiny("objective.large_margin.begin=0.5", "augment.speeds=[0.9]")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    torch.manual_seed(5)
    save_model(build_model("ecapa-tdnn", **OPTIONS), path, tiny())
    return path


def test_distillation_alone_brings_the_embeddings_close(teacher, tmp_path):
    recipe = tiny(
        f"distillation={{teacher: '{teacher}', labels: false}}",
        "training={steps: 30, warmup: 0, log_every: 5, validate_every: 30, batch_size: 16}",
        "augment.probability=0",
        method="dense",
    )
    train(recipe, tmp_path / "run")
    found = records(tmp_path / "run")
    assert found[-1]["distillation"] < 0.7 * found[0]["distillation"]
    assert all(record["accuracy"] is None for record in found)
    for record in found:
        assert record["loss"] == pytest.approx(record["distillation"])


def test_distillation_beside_labels_is_resumed_exactly(teacher, tmp_path, stop_at):
    recipe = tiny("distillation={weight: 2}", **{"distillation.teacher": str(teacher)})
    train(recipe, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", observer=stop_at(5))
    train(recipe, tmp_path / "resumed", resume=True)
    assert digest(tmp_path / "straight") == digest(tmp_path / "resumed")
    assert records(tmp_path / "straight") == records(tmp_path / "resumed")
    assert all(
        record["loss"] > 2 * record["distillation"] for record in records(tmp_path / "straight")
    )


def test_a_teacher_has_the_features_that_it_was_trained_on(teacher):
    waveforms = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    # Another preset and other bins than the teacher's, which the student alone is given.
    front_end = FrontEnd(preset="wespeaker", num_mel_bins=20)
    student = Filterbank(front_end)(waveforms)
    compute = Compute(torch.device("cpu"), "fp32", 1)
    taught = Teacher(str(teacher), front_end, 16, compute, trust=False)(waveforms, student)
    feats = Filterbank(tiny().front_end)(waveforms)
    with torch.inference_mode():
        torch.testing.assert_close(taught, load_model(teacher)(feats))


def test_a_teacher_that_does_not_fit_is_named(teacher, tmp_path):
    section = {"distillation.teacher": str(teacher)}
    with pytest.raises(SparsifyError, match="16000 Hz and the model 8000"):
        train(tiny("front_end.sample_rate=8000", **section), tmp_path / "run")
    with pytest.raises(SparsifyError, match="16 numbers and the model of 24"):
        train(tiny("model.options.embedding_dim=24", **section), tmp_path / "run")
    with pytest.raises(SparsifyError, match="nowhere"):
        train(tiny(**{"distillation.teacher": "nowhere.pt"}), tmp_path / "run")
    with pytest.raises(SparsifyError, match=r"distillation\.teacher"):
        tiny("distillation.labels=false")


def test_resuming_does_without_the_file_that_the_run_started_from(teacher, tmp_path, stop_at):
    start = tmp_path / "start.safetensors"
    shutil.copy(teacher, start)
    recipe = tiny(**{"model.init_from": str(start)})
    train(recipe, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", observer=stop_at(3))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "early", observer=stop_at(1))  # before the first checkpoint
    start.unlink()
    for name in ("resumed", "early"):
        train(recipe, tmp_path / name, resume=True)
        assert digest(tmp_path / name) == digest(tmp_path / "straight")
        assert records(tmp_path / name) == records(tmp_path / "straight")


def test_mean_embedding_is_that_of_the_training_utterances(tmp_path):
    recipe = tiny("training.steps=2")
    train(recipe, tmp_path / "run")
    artifact, data = load_artifact(tmp_path / "run"), load_data(recipe)
    model, filterbank = artifact.build(), Filterbank(recipe.front_end)
    with torch.no_grad():
        embeddings = [
            model(filterbank(torch.from_numpy(data.cache.waveform(utterance))[None]))[0]
            for utterance in data.train.utterances
        ]
    mean = torch.tensor(json.loads(artifact.metadata["embedding_mean"]))
    torch.testing.assert_close(mean, torch.stack(embeddings).mean(0), rtol=1e-4, atol=1e-5)


class Plain(nn.Module):
    """Neither batch norm nor anything else that looks at the whole batch."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(80, 16)

    def forward(self, feats):
        return self.linear(feats).relu().mean(1)


def learner_of(recipe, monkeypatch):
    monkeypatch.setattr(Architecture, "build", lambda _: Plain().requires_grad_())
    recipe = resolve(recipe)
    return Learner(recipe, choose_compute("cpu", "fp32"), Processes(), 4, start_of(recipe))


def test_micro_batches_change_nothing_where_crops_do_not_meet(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    batches = [(0.1 * torch.randn(8, 6400, generator=generator), torch.arange(8)) for _ in range(3)]
    results = []
    for pieces in (1, 4):
        recipe = tiny(
            f"training.micro_batches={pieces}",
            "augment.spec_augment.probability=0.5",
            method="linbreg",
        )
        learner = learner_of(recipe, monkeypatch)
        values = [learner.update(step, batch) for step, batch in enumerate(batches, 1)]
        results.append((learner.network.linear.weight, values))
    torch.testing.assert_close(results[0][0], results[1][0])
    for one, four in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one["loss"], four["loss"])
        torch.testing.assert_close(one["accuracy"], four["accuracy"])


def test_gradients_that_overflow_are_left_out(monkeypatch):
    """With a scaler that is on, as for fp16, a step without finite gradients changes nothing."""
    monkeypatch.setattr(Compute, "scaler", lambda _: torch.amp.GradScaler("cpu", init_scale=4.0))
    learner = learner_of(tiny(method="dense"), monkeypatch)
    plain = learner_module.Learner.update
    batch = (0.1 * torch.randn(8, 6400), torch.arange(8))
    before = learner.network.linear.weight.clone()
    broken = (torch.full((8, 6400), float("inf")), torch.arange(8))
    plain(learner, 1, broken)
    assert learner.overflows == 1
    assert torch.equal(learner.network.linear.weight, before)
    assert learner.scaler.get_scale() == 2.0
    plain(learner, 2, batch)
    assert learner.overflows == 1
    assert learner.network.linear.weight.isfinite().all()
    assert not torch.equal(learner.network.linear.weight, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_on_a_gpu(tmp_path):
    recipe = tiny("training.precision=fp16")
    summary = train(recipe, tmp_path / "run", device="cuda")
    assert summary["device"].endswith("fp16")
    assert all(torch.isfinite(t).all() for t in load_artifact(tmp_path / "run").state.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_fp16_without_a_gpu_is_named():
    with pytest.raises(SparsifyError, match="fp16 needs a GPU"):
        choose_compute("cpu", "fp16")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.micro_batches=3", "does not split into 3"),
        ("training.micro_batches=8", "at least 2"),
        ("training={schedule: exponential, final_lr: 0}", "final_lr"),
        ("augment.noise_snr_db={music: [0, 1]}", "noise"),
        ("augment.rt60=[0, 1]", "more than 0"),
        ("augment.spec_augment.time_mask=1", "did you mean 'augment.spec_augment.time_masks'"),
        ("distillation.loss=l2", "cosine"),
    ],
)
def test_mistakes_are_named(assignment, message):
    with pytest.raises(SparsifyError, match=message):
        tiny(assignment)
