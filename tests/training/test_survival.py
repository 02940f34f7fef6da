"""Damaged, changed and contested run directories: the same result, or a sentence."""

import json
import shutil

import numpy as np
import pytest
import soundfile as sf
import torch

from sparsify.artifact.loading import load_model
from sparsify.artifact.saving import save_model
from sparsify.corpus.cache import AudioCache
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import load_recipe
from sparsify.training import trainer
from sparsify.training.compute import Compute
from sparsify.training.data import load_data
from sparsify.training.origin import Origin, files_of
from sparsify.training.run_directory import RunDirectory
from sparsify.training.trainer import train

from .test_kills import content

SETTINGS = [
    "model.options={channels: 8, aggregation_channels: 16, embedding_dim: 8}",
    "data={synthetic_speakers: 4, synthetic_utterances: 2, validation_speakers: 2}",
    "data.crop_seconds=0.4",
    "training={steps: 8, batch_size: 4, log_every: 1, validate_every: 2, workers: 0, average: 2}",
    "training.batch_norm_batches=2",
    "methods.gmp={begin: 0, end: 0.2, every: 1}",
    "augment.probability=0",
    "training.precision=fp32",
]


def tiny(*more, **changes):
    return load_recipe(
        "quickstart", [*SETTINGS, *more], {"method": "gmp", "target_sparsity": 0.5} | changes
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, stop_at):
    """A run `straight`, and one `stopped` after step 7, whose checkpoints are of 4 and 6."""
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    train(tiny(), folder / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), folder / "stopped", observer=stop_at(7))
    return folder


@pytest.fixture
def stopped(runs, tmp_path):
    shutil.copytree(runs / "stopped", tmp_path / "run")
    return tmp_path / "run"


def flip(file, share=0.5):
    data = bytearray(file.read_bytes())
    data[int(share * len(data))] ^= 16
    file.write_bytes(data)


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def elsewhere(run):
    """Damage to what a checkpoint does not need, and what a kill leaves."""
    flip(run / "model.safetensors")
    flip(run / "metrics.jsonl")
    for name in (".model.7.tmp.safetensors", "checkpoints/.step-8.7.tmp.pt", ".lock"):
        (run / name).write_text("half")


@pytest.mark.parametrize(
    ("damage", "warning"),
    [
        (lambda run: flip(run / "checkpoints" / "last.pt"), "last.pt' is damaged: going on from"),
        (lambda run: (run / "checkpoints" / "last.pt").unlink(), "last.pt' is missing"),
        (lambda run: flip(run / "checkpoints" / "step-6.pt"), "step-6.pt' is damaged"),
        (elsewhere, ""),
    ],
)
def test_damage_to_a_stopped_run_is_made_good(damage, warning, runs, stopped, caplog):
    damage(stopped)
    train(tiny(), stopped, resume=True)
    assert content(stopped) == content(runs / "straight")
    warnings = [text for text in caplog.messages if "no weight is left" not in text]
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)


def test_a_later_checkpoint_does_not_take_the_place_of_the_one_gone_on_from(stopped, stop_at):
    """A damaged last checkpoint is not kept as the previous one."""
    flip(stopped / "checkpoints" / "last.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), stopped, resume=True, observer=stop_at(7))  # saves that of step 6 again
    flip(stopped / "checkpoints" / "last.pt")
    assert RunDirectory(stopped).load_checkpoint()["step"] == 4


def test_without_an_intact_checkpoint_a_run_stays_as_it_is(stopped):
    for name in ("last.pt", "previous.pt"):
        flip(stopped / "checkpoints" / name)
    before = everything(stopped)
    with pytest.raises(SparsifyError, match=r"last\.pt' is damaged and .*previous\.pt' is damaged"):
        train(tiny(), stopped, resume=True)
    assert everything(stopped) == before


def test_a_run_whose_checkpoints_are_deleted_begins_anew(runs, stopped):
    for name in ("last.pt", "previous.pt"):
        (stopped / "checkpoints" / name).unlink()
    train(tiny(), stopped, resume=True)
    flip(stopped / "checkpoints" / "start.pt")
    assert RunDirectory(stopped).load_checkpoint()["step"] == 8
    (stopped / "summary.json").unlink()
    train(tiny(), stopped, resume=True)  # needs it no more
    assert content(stopped) == content(runs / "straight")


def test_a_checkpoint_keeps_the_models_of_the_one_before(tmp_path):
    run = RunDirectory(tmp_path)
    with run.locked():
        for step, models in ((2, [2]), (4, [4]), (6, [4, 6]), (8, [6, 8])):
            run.save_validated(step, {"weight": torch.full((2,), float(step))})
            run.save_checkpoint({"step": step}, models)
            files = {path.name for path in (tmp_path / "checkpoints").glob("step-*.pt")}
            assert files == {f"step-{each}.pt" for each in {*models, *run_before(step)}}
    again = RunDirectory(tmp_path)
    again.rewind(again.load_checkpoint())
    again.save_checkpoint({"step": 10}, [8])
    files = {path.name for path in (tmp_path / "checkpoints").glob("step-*.pt")}
    assert files == {"step-6.pt", "step-8.pt"}


def run_before(step):
    return {2: [], 4: [2], 6: [4], 8: [4, 6]}[step]


def test_another_recipe_is_refused_or_accepted_by_name(runs, stopped):
    recipe = stopped / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("gradient_clip: 5.0", "gradient_clip: 0.25"))
    changed = RunDirectory(stopped).saved_recipe()
    assert changed.training.gradient_clip == 0.25
    words = r"training\.gradient_clip was 5\.0 and is 0\.25; .*--accept-changes"
    with pytest.raises(SparsifyError, match=words):
        train(changed, stopped, resume=True)
    summary = train(changed, stopped, resume=True, accept_changes=True)
    assert summary["changed_at_resume"] == ["training.gradient_clip was 5.0 and is 0.25"]
    assert "changed_at_resume" not in RunDirectory(runs / "straight").summary()


def test_a_flipped_bit_in_the_recipe_is_noticed_before_the_first_checkpoint(tmp_path, stop_at):
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "run", observer=stop_at(1))
    with pytest.raises(SparsifyError, match="seed was 0 and is 1"):
        train(tiny(seed=1), tmp_path / "run", resume=True)


def test_more_steps_are_accepted_and_fewer_than_done_are_not(stopped):
    with pytest.raises(SparsifyError, match="after step 6 of 5"):
        train(tiny("training.steps=5"), stopped, resume=True, accept_changes=True)
    more = tiny("training.steps=10")
    assert train(more, stopped, resume=True, accept_changes=True)["steps"] == 10


def write_speech(folder):
    rng = np.random.default_rng(0)
    for speaker in range(4):
        for number in range(2):
            path = folder / f"spk{speaker}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, rng.normal(0, 0.1, 16000), 16000)
    return folder


def test_other_speech_is_refused(tmp_path, stop_at):
    speech, run = write_speech(tmp_path / "speech"), tmp_path / "run"
    recipe = tiny(**{"data.path": str(speech)})
    with pytest.raises(KeyboardInterrupt):
        train(recipe, run, observer=stop_at(3))
    first = speech / "spk0" / "0.wav"
    whole = first.read_bytes()
    flip(first)
    with pytest.raises(SparsifyError, match=r"the audio was .* and is"):
        train(recipe, run, resume=True)
    first.write_bytes(whole)
    sf.write(speech / "spk3" / "new.wav", np.ones(16000) / 9, 16000)
    with pytest.raises(SparsifyError, match=r"the list of utterances was .* of 2 speakers"):
        train(recipe, run, resume=True)


def test_audio_on_demand_is_told_by_its_sizes(tmp_path):
    speech = write_speech(tmp_path / "speech")
    recipe = tiny(**{"data.path": str(speech)})
    data = load_data(recipe)
    assert not {*files_of(recipe, data)} & {"the sizes of the audio files"}
    object.__setattr__(data, "cache", AudioCache(16000, {}))
    before = files_of(recipe, data)
    flip(data.train.utterances[0].path)
    assert files_of(recipe, data) == before
    data.train.utterances[0].path.write_bytes(b"")
    data.train.utterances[1].path.unlink()
    after = files_of(recipe, data)
    assert {key for key in after if after[key] != before[key]} == {"the sizes of the audio files"}


def test_other_recordings_and_another_teacher_are_noticed(runs, tmp_path):
    noise = write_speech(tmp_path / "noise")
    teacher = shutil.copytree(runs / "straight", tmp_path / "teacher")
    settings = {"augment.noise": str(noise), "distillation.teacher": str(teacher)}
    recipe = tiny("augment.probability=0.5", **settings)
    data = load_data(recipe)
    before = files_of(recipe, data)
    (noise / "spk0" / "0.wav").unlink()
    another = load_model(teacher)
    next(another.parameters()).data.mul_(2)
    save_model(another, teacher / "model.safetensors", recipe)
    after = files_of(recipe, data)
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {"the files in augment.noise", "the teacher's weights"}


def test_what_is_not_known_of_both_is_not_compared(tmp_path, caplog):
    def origin(saved=None, **options):
        return Origin(tmp_path, saved, **{"accept_changes": False} | options)

    def compute(threads):
        return Compute(torch.device("cpu"), "fp32", threads)

    begun = origin()
    begun.take("settings", {"a": "1", "b": "2"})
    begun.take("files", {"the audio": "x", "list": "y"})
    begun.take_compute(compute(1), 1)
    saved = begun.state_dict()
    same = origin(saved)
    same.take("files", {"sizes": "z", "list": "y"})
    same.take_compute(compute(1), 1)
    assert not caplog.messages
    same.take_compute(compute(2), 2)
    (warning,) = caplog.messages
    assert ", 1 thread, fp32 and goes on" in warning
    assert ", 2 threads, fp32, in 2 processes:" in warning
    other = [str(number) for number in range(9)]
    with pytest.raises(SparsifyError, match=r"a was 1 and is absent, .* and 7 more; restore"):
        origin(saved).take("settings", dict(zip(other, other, strict=True)) | {"b": "2"})
    accepted = origin(saved, accept_changes=True)
    accepted.take("settings", {"a": "3", "b": "2"})
    assert origin(accepted.state_dict()).changed == ["a was 1 and is 3"]


@pytest.mark.parametrize("origin", [None, 3, {"settings": 3, "files": {}, "changed": []}, {}])
def test_a_checkpoint_of_another_kind_is_one_sentence(origin, stopped):
    run = RunDirectory(stopped)
    run.save_checkpoint({"step": 6, "origin": origin}, [])
    with pytest.raises(SparsifyError, match="does not fit"):
        train(tiny(), stopped, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_ends_while_another_loads_is_left_as_it_is(resume, runs, tmp_path, monkeypatch):
    output = tmp_path / "run"
    if resume:
        shutil.copytree(runs / "straight", output)
        left = everything(output)
        assert train(tiny(), output, resume=True) == RunDirectory(output).summary()
    else:

        def late(*arguments, **options):
            monkeypatch.setattr(trainer, "load_data", load_data)
            train(tiny(), output)
            nonlocal left
            left = everything(output)
            return load_data(*arguments, **options)

        left = {}
        monkeypatch.setattr(trainer, "load_data", late)
        with pytest.raises(SparsifyError, match="holds a run already"):
            train(tiny(), output)
    assert left
    assert everything(output) == left


def test_nothing_is_no_run_to_resume(tmp_path):
    with pytest.raises(SparsifyError, match="nothing to resume"):
        train(tiny(), tmp_path / "run", resume=True)
    assert not list(tmp_path.iterdir())


def test_divergence_that_validation_finds_names_the_learning_rate(tmp_path):
    """The loss before the one and only step is finite; the weights after it are not."""
    recipe = tiny(
        "training.steps=1", "training.warmup=0", method="dense", **{"methods.dense.lr": 1e38}
    )
    with pytest.raises(SparsifyError, match=r"diverged.*not finite.*lower methods\.dense\.lr"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


ODD = [
    *("{", "[1]", '"step"', "null", "{}", '{"step": "1"}', '{"step": true}', '{"step": 1.5}'),
    *('{"step": 2, "loss": NaN}', '{"step": 2, "loss": 1e999}', '{"step": ' + "9" * 999 + "}"),
    *("[" * 100_000, '{"step": 1, "a": ' + "[" * 100 + "]" * 100 + "}", "\u2028", "\0"),
]


def test_odd_lines_of_the_metrics_are_left_out(tmp_path, caplog):
    run = RunDirectory(tmp_path)
    run.log({"step": 1, "loss": float("nan"), "each": (float("inf"), 0.1)})
    kept = {"step": 1, "loss": None, "each": [None, 0.1]}
    assert json.loads(run.metrics_file.read_text()) == kept
    text = "\n".join(ODD)
    with run.metrics_file.open("a") as file:
        file.write(f'{text}\n\n{{"step": 2, "x": "odd", "y": [1]}}\n{{"step": 3, "lo')
    assert run.metrics() == [kept, {"step": 2, "x": "odd", "y": [1]}]
    assert f"{len(ODD)} lines" in caplog.text
    run.metrics_file.write_bytes(b"\xff\n")
    with pytest.raises(SparsifyError, match="not UTF-8"):
        run.metrics()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"a": NaN}', '{"digests": []}', "[" * 99_999]
)
def test_an_odd_summary_is_damaged(text, tmp_path):
    run = RunDirectory(tmp_path)
    assert run.summary() is None
    run.summary_file.write_text(text)
    with pytest.raises(SparsifyError, match=r"summary\.json' is damaged: delete it"):
        run.summary()


def test_changes_to_the_texts_of_a_complete_run_are_noticed(runs, tmp_path, caplog):
    path = shutil.copytree(runs / "straight", tmp_path / "run")
    run = RunDirectory(path)
    run.metrics(), run.saved_recipe()
    assert not caplog.messages
    for file, read in ((run.metrics_file, run.metrics), (run.recipe_file, run.saved_recipe)):
        file.write_text(file.read_text() + "\n")
        read()
        assert f"{file.name}' has been changed or damaged since" in caplog.messages[-1]
    summary = json.loads(run.summary_file.read_text())
    for text in (summary | {"eer_percent": 0.1}, {k: summary[k] for k in summary if k != "seed"}):
        run.summary_file.write_text(json.dumps(text))
        with pytest.raises(SparsifyError, match="damaged"):
            run.summary()
    del summary["digests"]  # by a tool that knows nothing of it
    run.summary_file.write_text(json.dumps(summary))
    assert run.summary() == summary


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "model.safetensors").unlink(),
        lambda run: flip(run / "model.safetensors"),
        lambda run: flip(run / "summary.json"),
    ],
)
def test_a_complete_run_whose_result_is_lost_makes_it_again(damage, runs, tmp_path, caplog):
    path = shutil.copytree(runs / "straight", tmp_path / "run")
    damage(path)
    train(tiny(), path, resume=True)
    assert "made again from its checkpoint" in caplog.text
    assert content(path) == content(runs / "straight")
