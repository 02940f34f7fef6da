"""`sparsify compare` as a user runs it."""

import fcntl
import json
import re
import shutil
import signal
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile as sf
import yaml
from click.testing import CliRunner

from sparsify.cli.main import main
from sparsify.comparison import processes

pytestmark = pytest.mark.usefixtures("forks")

OUTPUTS = ("results.json", "results.csv", "results.md", "report.html", "comparison.yaml")


def compare(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def recipe(comparison_plan, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(comparison_plan.recipe.to_yaml())
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for name in "abcd":
        sf.write(folder / f"{name}.wav", rng.normal(0, 0.1, 16000), 16000)
    (folder / "trials.txt").write_text("1 a.wav b.wav\n0 a.wav c.wav\n0 b.wav d.wav\n")
    return folder


@pytest.fixture(scope="module")
def carried_out(forks, recipe, speech, tmp_path_factory):
    """A real comparison of two runs, in processes of their own; do not change it."""
    output = tmp_path_factory.mktemp("done") / "out"
    arguments = ["--recipe", recipe, "--methods", "dense,linbreg", "--targets", "0.5"]
    arguments += ["--trials", speech / "trials.txt", "--audio-root", speech]
    result = compare(*arguments, "--output", output, "--jobs", 2, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    return output, result


@pytest.fixture
def done(carried_out, tmp_path):
    """A copy of that comparison, and what it printed."""
    output, result = carried_out
    return shutil.copytree(output, tmp_path / "done"), result


def test_writes_everything(done):
    output, result = done
    printed = json.loads(result.stdout)
    assert printed.pop("gates") == []
    assert printed == json.loads((output / "results.json").read_text())
    assert [run["run"] for run in printed["runs"]] == ["dense-seed0", "linbreg-0.5-seed0"]
    assert printed["standing"] == "test"
    assert all(run["tests"]["test"]["trials"] == 3 for run in printed["runs"])
    assert {file.name for file in output.iterdir()} >= set(OUTPUTS)
    assert (output / "runs" / "dense-seed0" / "report.html").is_file()
    assert "training" in result.stderr
    assert "evaluating on test" in result.stderr


def test_what_is_done_is_not_done_again(done, monkeypatch):
    output, _ = done
    monkeypatch.setattr(processes, "PROGRAM", ("no such program",))
    before = (output / "results.json").read_text()
    again = compare("--output", output, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["runs"] == json.loads(before)["runs"]


def test_the_calls_that_added_something_are_remembered(done, speech, monkeypatch):
    output, _ = done
    monkeypatch.setattr(processes, "PROGRAM", ("no such program",))
    monkeypatch.setattr(sys, "argv", ["sparsify", "compare", "--seeds", "0"])
    made = json.loads(compare("--output", output, "--seeds", 0, "--json").stdout)["command"]
    assert "--seeds 0" not in made  # which was there
    trials = f"again={speech / 'trials.txt'}:{speech}"
    monkeypatch.setattr(sys, "argv", ["sparsify", "compare", "--test", "a b"])
    compare("--output", output, "--test", trials)  # evaluates nothing, as there is no program
    plan = yaml.safe_load((output / "comparison.yaml").read_text())
    assert plan["commands"] == [made, "sparsify compare --test 'a b'"]


def test_gates_on_what_is_there(done, monkeypatch, refused):
    output, _ = done
    monkeypatch.setattr(processes, "PROGRAM", ("no such program",))
    passed = compare("--output", output, "--fail-if", "linbreg@0.5.sparsity < 0.4999999")
    assert passed.exit_code == 0, passed.output
    assert passed.stdout.splitlines()[-1] == (
        "Passed: linbreg@0.5.sparsity < 0.4999999 does not hold: 0.5 against 0.4999999"
    )
    gates = ["--fail-if", "dense.sparsity > 0", "--fail-if", "linbreg@0.5.sparsity > 0.4 + 0.05"]
    failed = compare("--output", output, *gates)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == (
        "Failed: linbreg@0.5.sparsity > 0.4 + 0.05 holds: 0.5 against 0.45"
    )
    typo = compare("--output", output, "--fail-if", "linbreg@0.5.eer_precent > 1")
    refused(typo, "did you mean 'eer_percent'")


def test_another_recipe_is_refused(done, recipe, refused):
    output, _ = done
    other = compare("--output", output, "--set", "training.steps=9")
    refused(other, "another recipe", "training.steps")
    other = compare("--output", output, "--recipe", recipe, "--set", "name=other")
    refused(other, "another recipe", "(name;")


def test_a_folder_of_something_else_is_refused(tmp_path, refused):
    (tmp_path / "thesis.tex").write_text("dear")
    refused(compare("--methods", "dense", "--output", tmp_path), "exists and is not empty")
    refused(compare("--methods", "dense", "--output", tmp_path / "thesis.tex"), "is a file")
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_refused_changes_nothing(done, refused):
    output, _ = done
    before = (output / "comparison.yaml").read_text()
    with (output / "logs" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(compare("--output", output, "--seeds", 7), "at work in")
    assert (output / "comparison.yaml").read_text() == before


def test_an_interruption_leaves_the_results_of_what_is_complete(done, speech, monkeypatch):
    output, _ = done
    before = json.loads((output / "results.json").read_text())

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["sparsify.comparison.compare"], "carry_out", interrupted)
    (output / "results.json").unlink()
    result = compare("--output", output, "--seeds", "0,1")
    assert result.exit_code == 130
    assert f"Continue with: sparsify compare --output {output}" in result.stderr
    assert "report.html shows what is complete" in result.stderr
    assert json.loads((output / "results.json").read_text())["means"] == before["means"]
    more = f"more={speech / 'trials.txt'}:{speech}"
    assert compare("--output", output, "--test", more).exit_code == 130
    assert json.loads((output / "results.json").read_text())["means"] == before["means"]


def test_a_damaged_run_takes_no_other_with_it(done, refused):
    output, _ = done
    for name in ("recipe.yaml", "metrics.jsonl", "model.safetensors", "summary.json"):
        file = output / "runs" / "dense-seed0" / name
        whole = file.read_bytes()
        file.write_bytes(b"{")
        if name == "metrics.jsonl":
            file.unlink()
        (output / "results.json").unlink()
        result = compare("--output", output)
        assert result.exit_code == 1, name
        last = result.stderr.splitlines()[-1]
        assert last.startswith("Failed: 1 of 2 runs failed: dense-seed0: "), name
        assert name in last
        rows = json.loads((output / "results.json").read_text())["runs"]
        assert [row["run"] for row in rows] == ["linbreg-0.5-seed0"], name
        file.write_bytes(whole)
    (output / "results.json").write_text("[]")
    refused(compare("--output", output), "results.json", "is damaged: delete it")
    (output / "results.json").unlink()
    (output / "comparison.yaml").write_text("")
    refused(compare("--output", output), "comparison.yaml", "delete it and say all options")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_signals_that_were_to_be_ignored_are(number, done, monkeypatch):
    """As nohup and shells with a background job have it; SIGINT ends the runs all the same."""
    seen = {}

    def carried_out(*_, **__):
        seen["handler"] = signal.getsignal(number)
        signal.raise_signal(number)
        return {}

    monkeypatch.setattr(sys.modules["sparsify.comparison.compare"], "carry_out", carried_out)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert compare("--output", done[0]).exit_code == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert (seen["handler"] is signal.SIG_IGN) == (number != signal.SIGINT)


def test_a_test_set_more_keeps_those_there_were(done, speech, refused):
    output, _ = done
    more = ["--test", f"other={speech / 'trials.txt'}:{speech}"]
    result = compare("--output", output, *more, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [test["name"] for test in printed["test_sets"]] == ["test", "other"]
    assert printed["standing"] == "test"
    assert all(run["tests"].keys() == {"test", "other"} for run in printed["runs"])
    refused(compare("--output", output, *more, *more), "same name")


def test_the_table_is_for_people(done):
    output, _ = done
    result = compare("--output", output)
    assert "linbreg" in result.stdout
    assert "50.000%" in result.stdout
    assert "report.html" in result.stdout


def test_grows_and_reports_failures(done, monkeypatch):
    """More targets may be added; that they fail here is told once for all, with exit code 1."""
    output, _ = done
    monkeypatch.setattr(
        processes, "PROGRAM", (sys.executable, "-c", "raise SystemExit('Error: no luck')")
    )
    result = compare("--output", output, "--targets", "0.8,0.9", "--methods", "linbreg")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Failed: 2 of 4 runs failed: linbreg-0.8-seed0, linbreg-0.9-seed0: no luck"
    )
    content = json.loads((output / "results.json").read_text())
    assert len(content["runs"]) == 2
    assert len(content["failures"]) == 2


def test_tunes_on_validation_speakers_first(recipe, tmp_path, monkeypatch, refused):
    output = tmp_path / "out"
    arguments = ["--recipe", recipe, "--methods", "linbreg", "--targets", "0.5", "--jobs", 2]
    tuning = ["--tune", "linbreg.lr=0.5,1.0"]
    result = compare(*arguments, *tuning, "--output", output, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    (tuned,) = printed["tuning"]
    errors = {}
    for value in (0.5, 1.0):
        run = output / "runs" / f"linbreg-0.5-seed0-lr={value}"
        summary = json.loads((run / "summary.json").read_text())
        errors[value] = (summary["eer_percent"] + summary["corrupted_eer_percent"]) / 2
    assert tuned["chosen"] == min(errors, key=errors.get)
    assert [run["run"] for run in printed["runs"]] == [f"linbreg-0.5-seed0-lr={tuned['chosen']}"]
    for file in ("results.md", "report.html"):
        assert "validation spe" in (output / file).read_text()
    monkeypatch.setattr(processes, "PROGRAM", ("no such program",))
    again = compare("--output", output)
    assert again.exit_code == 0, again.output
    assert "was chosen at 50%, seed 0" in again.stdout
    refused(compare("--output", output, "--tune", "linbreg.lr=1,2"), "results of 'linbreg'")
    refused(compare("--output", output, "--tune", "linbreg.momentum=0.5,1.0"), "results of")
    plan = yaml.safe_load((output / "comparison.yaml").read_text())
    assert plan["tunings"][0]["values"] == [0.5, 1.0]


def test_a_tuning_goes_on_with_more_values(recipe, tmp_path):
    output = tmp_path / "out"
    arguments = ["--recipe", recipe, "--methods", "linbreg", "--targets", "0.5", "--device", "cpu"]
    first = compare(*arguments, "--tune", "linbreg.lr=1e30,1e-3", "--output", output)
    assert first.exit_code == 0, first.output
    done = output / "runs" / "linbreg-0.5-seed0-lr=0.001" / "summary.json"
    before = done.stat().st_mtime_ns
    more = compare("--output", output, "--tune", "linbreg.lr=0.001,0.5,1e30", "--device", "cpu")
    assert more.exit_code == 0, more.output
    assert done.stat().st_mtime_ns == before
    results = json.loads((output / "results.json").read_text())
    assert [each["value"] for each in results["tuning"][0]["tried"]] == [0.001, 0.5, 1e30]
    chosen = results["tuning"][0]["chosen"]
    assert [run["run"] for run in results["runs"]] == [f"linbreg-0.5-seed0-lr={chosen}"]


def test_a_tuning_that_failed_leaves_the_others_and_can_be_replaced(recipe, tmp_path, refused):
    output = tmp_path / "out"
    arguments = ["--methods", "dense,linbreg", "--targets", "0.5", "--device", "cpu"]
    failed = compare(
        "--recipe", recipe, *arguments, "--tune", "linbreg.lr=1e30,1e31", "--output", output
    )
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("Failed: 2 of 3 runs failed: linbreg-0.5-")
    results = json.loads((output / "results.json").read_text())
    assert [run["run"] for run in results["runs"]] == ["dense-seed0"]
    again = compare("--output", output, "--tune", "linbreg.lr=0.5,1.0", "--device", "cpu")
    assert again.exit_code == 0, again.output
    refused(compare("--output", output, "--tune", "dense.lr=0.1,0.2"), "results of 'dense'")


def test_a_method_that_cannot_start_from_the_model_is_refused(done, recipe, tmp_path, refused):
    trained, _ = done
    sparse = trained / "runs" / "linbreg-0.5-seed0"
    arguments = ["--recipe", recipe, "--init-from", sparse, "--output", tmp_path / "out"]
    refused(compare(*arguments, "--methods", "linbreg,gmp", "--targets", "0.3"), "gmp@0.3")
    assert not (tmp_path / "out").exists()


def test_starts_from_a_model_with_its_network(done, recipe, tmp_path, refused, made):
    trained, _ = done
    model = trained / "runs" / "dense-seed0"
    output = tmp_path / "out"
    arguments = ["--recipe", recipe, "--methods", "gmp", "--targets", "0.5", "--output", output]
    different = ["--set", "model.options={channels: 24}"]
    wrong = compare(*arguments, "--init-from", model, *different)
    refused(wrong, "shape")
    assert not output.exists()
    made.clear()
    result = compare(*arguments[:-1], tmp_path / "right", "--init-from", model, "--json")
    assert result.exit_code == 0, result.output
    # Options before anything is trained, and when the recipe of the run is written.
    assert made == {"ecapa-tdnn": 1, "methods.gmp": 2}
    assert json.loads(result.stdout)["recipe"]["model"]["init_from"] == str(model)


def test_another_model_in_its_place_is_noticed(done, recipe, tmp_path, refused):
    trained, _ = done
    output, model = tmp_path / "out", tmp_path / "model.safetensors"
    shutil.copy(trained / "runs" / "dense-seed0" / "model.safetensors", model)
    arguments = ["--recipe", recipe, "--init-from", model, "--methods", "gmp", "--targets", "0.6"]
    result = compare(*arguments, "--output", output, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert compare("--output", output).exit_code == 0
    shutil.copy(trained / "runs" / "linbreg-0.5-seed0" / "model.safetensors", model)
    refused(compare("--output", output, "--seeds", "0,1"), "model.init_from", "has changed")
    model.unlink()
    refused(compare("--output", output), str(model))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "dense", "--tune", "dense.lr"], ["METHOD.OPTION=V,V,…"]),
        (["--methods", "dense", "--tune", "dense.lr=1"], ["two or more different values"]),
        (["--methods", "dense", "--tune", "dense.lr=1e-3,0.001"], ["two or more different"]),
        (["--methods", "dense", "--tune", "dense.lr=1,,2"], ["'' is neither a number nor a word"]),
        (["--methods", "dense", "--tune", "dense.lr=[1,2]"], ["'[1' is neither a number"]),
        (["--methods", "dense", "--tune", "dense.lr=true,0.1"], ["true and false are no numbers"]),
        (["--methods", "gmp", *(["--tune", "gmp.lr=1,2"] * 2)], ["one option can be tuned"]),
        (["--methods", "dense", "--tune", "gmp.lr=1,2"], ["'gmp' is not compared"]),
        (["--methods", "adabrag"], ["did you mean 'adabreg'"]),
        (["--targets", "0.9,1.5"], ["target_sparsity", "1.5% is 0.015"]),
        (["--targets", "0.9,95"], ["target_sparsity", "95% is 0.95"]),
        (["--targets", "0.9,x"], ["not a list of numbers"]),
        (["--seeds", "1.5"], ["not a list of whole numbers"]),
        (["--trials", __file__], ["belong together"]),
        (["--test", "clean"], ["NAME=TRIALS:ROOT"]),
        (["--test", "cl-ean=a:b"], ["name", "letters, digits and _"]),
        (
            ["--targets", "0.9,1"],
            ["target_sparsity = 1.0 does not fit: it must be less than 1"],
        ),
        (["--targets", "0.3,0.30000000000000004"], ["too close to tell apart"]),
        (["--test", "clean=nowhere.txt:b"], ["test set 'clean'", "nowhere.txt"]),
        (["--recipe", "nosuch"], ["nosuch"]),
        (["--set", "seed=7"], ["--set seed", "use --seeds"]),
        (["--speakers", "nowhere.txt", "--test", "clean=nowhere.txt:b"], ["nowhere.txt"]),
        (
            ["--set", "augment.probability=0"]
            + ["--fail-if", "gmp@0.9.validation.corrupted_eer_percent > 1"],
            ["no metric 'validation.corrupted_eer_percent'"],
        ),
        (["--set", "methods.gmp.begn=0"], ["did you mean 'begin'"]),
        (["--fail-if", "gmp@0.9.eer_percent >"], ["cannot be read"]),
        (["--fail-if", "gmp@0.9.eer_percent > 1 and 3"], ["'3' is a number and no condition"]),
        (["--fail-if", "gmp@0.91.eer_percent > 1"], ["did you mean 'gmp@0.9"]),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, words, tmp_path, refused):
    output = tmp_path / "out"
    refused(compare("--methods", "gmp", *arguments, "--output", output), *words)
    assert not (output / "runs").exists()


@pytest.mark.parametrize("name", ["results.json", "results.csv", "results.md"])
def test_report_writes_what_compare_wrote(name, done, tmp_path):
    comparison, file = done[0], tmp_path / name
    result = CliRunner().invoke(main, ["report", str(comparison), "--output", str(file)])
    assert result.exit_code == 0, result.output
    assert file.read_text("utf-8") == (comparison / name).read_text("utf-8")


def test_documented_options_exist():
    text = (Path(__file__).parents[2] / "docs" / "compare.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    calls = [
        line.partition(" #")[0].split()
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
    ]
    assert len(calls) >= 5
    for program, name, *words in calls:
        assert program == "sparsify"
        command = main.get_command(click.Context(main), name)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_a_collapsed_run_is_a_marked_row(recipe, speech, tmp_path):
    arguments = ["--recipe", recipe, "--methods", "gmp", "--targets", "0.9999", "--device", "cpu"]
    arguments += ["--set", "model.keep_layers=false", "--output", tmp_path / "out"]
    result = compare(*arguments, "--trials", speech / "trials.txt", "--audio-root", speech)
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert f"{row['run']}† has collapsed: {row['collapsed']}." in result.stdout
    assert "gmp†" in result.stdout
    for name in ("results.md", "report.html"):
        assert "gmp†" in (tmp_path / "out" / name).read_text()
