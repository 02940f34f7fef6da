"""Results that were made apart are joined, or refused."""

import pytest

from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.means import means
from sparsify.comparison.results import results_json
from sparsify.comparison.rows import collect_run
from sparsify.comparison.text_tables import to_markdown
from sparsify.comparison.wording import evaluation_sets
from sparsify.errors import SparsifyError


def test_a_run_that_is_not_complete_is_no_result(comparison, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    source = comparison / "runs" / "dense-seed0"
    (run / "recipe.yaml").write_bytes((source / "recipe.yaml").read_bytes())
    with pytest.raises(SparsifyError, match="not complete"):
        collect_run(run)


def test_a_test_set_that_some_runs_lack_has_no_mean(results, tmp_path, caplog):
    """A mean over other seeds than its neighbours' would mislead."""
    runs = [
        row | {"tests": {k: v for k, v in row["tests"].items() if k != "noisy" or row["seed"]}}
        for row in results["runs"]
    ]
    file = tmp_path / "results.json"
    file.write_text(results_json(results | {"runs": runs}))
    whole = gather([Part(file)])
    assert list(evaluation_sets(whole).values()) == ["clean"]
    assert list(evaluation_sets(results).values()) == ["clean", "noisy"]
    assert caplog.messages == [
        "no mean on 'noisy' for dense, linbreg@0.5, linbreg@0.9: some of the runs were not"
        " evaluated on it"
    ]
    assert "EER noisy" not in to_markdown(whole).splitlines()[0]


def test_a_folder_without_a_run_is_called_that(tmp_path):
    with pytest.raises(SparsifyError, match="is not a run directory"):
        collect_run(tmp_path)


def test_comparisons_made_apart_are_gathered(results, comparison, tuned, tmp_path):
    """Wherever they were made: the file says everything."""
    seeds = []
    for seed in (0, 1):
        runs = [row for row in results["runs"] if row["seed"] == seed]
        part = results | {"runs": runs, "means": means(runs), "command": f"sparsify {seed}"}
        seeds.append(tmp_path / str(seed) / "results.json")
        seeds[-1].parent.mkdir()
        seeds[-1].write_text(results_json(part))
    whole = gather(
        [Part(path) for path in (seeds[0], seeds[1].parent, seeds[0])]
    )  # the last says nothing new
    assert sorted(whole["runs"], key=lambda row: row["run"]) == sorted(
        results["runs"], key=lambda row: row["run"]
    )
    assert whole["means"] == results["means"]
    assert whole["tuning"] == tuned
    assert whole["command"] == "sparsify 0 && sparsify 1"
    alone = gather([Part(comparison / "runs" / "dense-seed1")])
    assert alone["runs"][0]["run"] == "dense-seed1"


def test_a_name_keeps_methods_apart_that_were_trained_in_another_way(results, tmp_path, caplog):
    recipe = results["recipe"]
    longer = {"recipe": recipe | {"training": recipe["training"] | {"steps": 500}}}
    (tmp_path / "a.json").write_text(results_json(results))
    (tmp_path / "b.json").write_text(results_json(results | longer))
    whole = gather([Part(tmp_path / "a.json"), Part(tmp_path / "b.json", "long")])
    cells = [entry["cell"] for entry in whole["means"]]
    expected = ["dense", "linbreg@0.5", "linbreg@0.9", "dense-long", "linbreg-long@0.5"]
    assert cells == [*expected, "linbreg-long@0.9"]
    assert [entry["seeds"] for entry in whole["means"]] == [[0, 1]] * 6
    assert whole["failures"].keys() == {"gmp-0.9-seed0", "gmp-0.9-seed0-long"}
    assert [row["method"] for row in whole["tuning"]] == ["gmp", "gmp-long"]
    assert not caplog.messages
    gather([Part(tmp_path / "a.json"), Part(tmp_path / "b.json")])
    (said,) = caplog.messages
    assert "training.steps" in said


def test_one_test_set_stands_for_all_runs(results, comparison, tmp_path):
    """The first that all were evaluated on, whatever stood for them where they were made."""
    other = [row | {"run": "x", "seed": 7, **row["tests"]["noisy"]} for row in results["runs"][:1]]
    swapped = {"runs": other, "standing": "noisy", "test_sets": results["test_sets"][::-1]}
    (tmp_path / "a.json").write_text(results_json(results))
    (tmp_path / "b.json").write_text(results_json(results | swapped))
    whole = gather([Part(tmp_path / "a.json"), Part(tmp_path / "b.json")])
    assert whole["standing"] == "clean"
    assert all(row["eer_percent"] == row["tests"]["clean"]["eer_percent"] for row in whole["runs"])
    untested = [row | {"run": "y", "seed": 8, "tests": {}} for row in results["runs"][:1]]
    (tmp_path / "b.json").write_text(results_json(results | {"runs": untested, "test_sets": []}))
    whole = gather([Part(tmp_path / "a.json"), Part(tmp_path / "b.json")])
    assert whole["standing"] == "validation"
    assert all(row["eer_percent"] == row["validation"]["eer_percent"] for row in whole["runs"])


def test_results_on_other_trials_are_not_mixed(results, tmp_path):
    def on(trials):
        rows = [
            row | {"tests": {n: t | {"trials_sha256": trials} for n, t in row["tests"].items()}}
            for row in results["runs"]
        ]
        return results_json(results | {"runs": rows})

    for name in "ab":
        (tmp_path / f"{name}.json").write_text(on(name))
    with pytest.raises(SparsifyError, match="different trials, both called 'clean'"):
        gather([Part(tmp_path / "a.json"), Part(tmp_path / "b.json")])


def test_runs_that_differ_in_options_are_not_taken_for_seeds_in_silence(results, tmp_path, caplog):
    assert results["runs"][-1]["options"]["initial_sparsity"] == 0.99  # with all defaults
    rows = [row | {"options": row["options"] | {"lr": 0.123}} for row in results["runs"]]
    (tmp_path / "a.json").write_text(results_json(results))
    (tmp_path / "b.json").write_text(results_json(results | {"runs": rows}))
    gather([Part(tmp_path / "a.json")])
    brief = [row | {"options": {"lr": row["options"]["lr"]}} for row in results["runs"]]
    (tmp_path / "brief.json").write_text(results_json(results | {"runs": brief}))
    gather([Part(tmp_path / "a.json"), Part(tmp_path / "brief.json")])
    assert not caplog.messages
    gather([Part(tmp_path / "a.json"), Part(tmp_path / "b.json")])
    assert "the runs of linbreg@0.9 differ in lr" in caplog.text


def test_runs_of_one_name_are_told_apart(results, tmp_path):
    other = results | {"recipe": results["recipe"] | {"training": {}}, "runs": results["runs"][:1]}
    (tmp_path / "a.json").write_text(results_json(results))
    (tmp_path / "b.json").write_text(results_json(other))
    parts = [Part(tmp_path / "a.json"), Part(tmp_path / "b.json")]
    names = [row["run"] for row in gather(parts)["runs"]]
    assert len(names) == len(set(names)) == len(results["runs"]) + 1


def test_a_training_that_is_in_two_comparisons_counts_once(results, tmp_path, caplog):
    """As dense does, which every comparison trains; its evaluations on other test sets count."""
    parts = []
    for name, test in (("a", "clean"), ("b", "noisy")):
        rows = [
            row | {"seconds": row["seconds"] + len(parts), "tests": {test: row["tests"][test]}}
            for row in results["runs"]
        ]
        tests = {"runs": rows, "test_sets": [{"name": test}]}
        (tmp_path / f"{name}.json").write_text(results_json(results | tests))
        parts.append(Part(tmp_path / f"{name}.json"))
    whole = gather(parts)
    assert whole["means"] == results["means"]
    assert not caplog.messages
    better = [row | {"validation": {"eer_percent": 0.0, "min_dcf": 0.0}} for row in rows[:1]]
    (tmp_path / "b.json").write_text(results_json(results | {"runs": better}))
    again = gather(parts)
    assert [row["run"] for row in again["runs"]] == [row["run"] for row in results["runs"]]
    assert "repeats a run of another part and has other figures" in caplog.text


def test_other_files_are_no_results(tmp_path):
    (tmp_path / "other.json").write_text('{"format_version": 1}')
    with pytest.raises(SparsifyError, match=r"not the results\.json"):
        gather([Part(tmp_path / "other.json")])
