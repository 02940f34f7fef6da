"""The optimizers under DDP, FSDP2 and HSDP, in processes that torchrun starts on this machine."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed

WORKER = Path(__file__).with_name("distributed_worker.py")
CHECKS = {
    2: [
        "ddp",
        "fsdp",
        "fsdp_other_ways",
        "ties",
        "communication",
        "state_ddp",
        "state_sharded",
        "state_full",
        "state_from_rank_0",
        "state_in_files",
        "state_of_a_fresh_optimizer",
        "state_in_one_process",
        "errors",
    ],
    4: ["hsdp", "two_dimensions"],
}

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, torchrun):
    """Runs the checks for a number of processes once: those that passed, and what was printed."""

    @functools.cache
    def run(processes):
        folder = tmp_path_factory.mktemp("distributed")
        _, output = torchrun(processes, WORKER, folder, *CHECKS[processes])
        return {path.name for path in folder.iterdir()}, output

    return run


@pytest.mark.parametrize(
    ("processes", "check"), [(count, name) for count, names in CHECKS.items() for name in names]
)
def test_several_processes_equal_one(processes, check, run):
    passed, output = run(processes)
    assert check in passed, output[-8000:]


def test_import_does_without_dtensor():
    code = "import sparsify.optim.linbreg, sys; sys.exit('torch.distributed.tensor' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
