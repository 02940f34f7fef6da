"""`sparsify data speech-mini`: what it reports and how it refuses."""

import json

from click.testing import CliRunner

from sparsify.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["data", "speech-mini", *map(str, arguments)])


def test_the_counts_are_reported(tmp_path, monkeypatch):
    counts = {"train": 3, "test": 2, "test_noisy": 2}
    monkeypatch.setattr("sparsify.cli.speech_mini.build", lambda *_, track: counts)
    result = run("--source", tmp_path, "--output", tmp_path / "x", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"output": str(tmp_path / "x"), "utterances": counts}
    assert "train 3, test 2" in run("--source", tmp_path, "--output", tmp_path / "x").stdout


def test_another_folder_is_refused(tmp_path):
    result = run("--source", tmp_path, "--output", tmp_path / "x", "--json")
    assert result.exit_code == 2
    assert "root of speechocean762" in result.stderr
    assert list(tmp_path.iterdir()) == []
