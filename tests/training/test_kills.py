"""Runs that are killed and resumed end as runs that nobody has killed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

KILLING = Path(__file__).with_name("killing.py")

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


def killing(*arguments):
    """What `killing.py` has done."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": loopback}
    done = subprocess.run(
        [sys.executable, KILLING, *map(str, arguments)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return json.loads(done.stdout)


def content(run):
    """All that a run has left, but for seconds and the names of folders."""
    summary = json.loads((run / "summary.json").read_text())
    for key in ("seconds", "data_wait_seconds", "output"):
        summary.pop(key)
    summary["digests"].pop("summary.json")
    texts = [(run / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl")]
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*"))
    return files, summary, texts


@needs_gloo
def test_killed_at_chosen_moments(tmp_path):
    missed = killing("chosen", tmp_path)
    assert not any(missed.values())
    for processes in missed:
        expected = content(tmp_path / f"straight-{processes}")
        assert not [name for name in expected[0] if "/." in f"/{name}"]
        assert content(tmp_path / f"killed-{processes}") == expected
    assert "has ended without a word" in (tmp_path / "killed-2.log").read_text()


@needs_gloo
def test_killed_at_random(tmp_path, request):
    kills = request.config.getoption("--kills")
    if not kills:
        pytest.skip("--kills 50 kills trainings at 50 random moments")
    for processes, runs in killing("random", tmp_path, kills, 0).items():
        expected = content(tmp_path / f"straight-{processes}")
        for run in runs:
            assert content(tmp_path / run) == expected, run
