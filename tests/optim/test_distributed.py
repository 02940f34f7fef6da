"""The optimizers under DDP, FSDP2 and HSDP, in processes on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed

WORKER = Path(__file__).with_name("distributed_worker.py")
CHECKS = [
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
    "hsdp",
    "two_dimensions",
]

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Runs the checks once: those that passed, and what was printed."""
    folder = tmp_path_factory.mktemp("distributed")
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": loopback}
    run = subprocess.run(
        [sys.executable, WORKER, folder],
        env=os.environ | settings,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return {path.name for path in folder.iterdir()}, run.stdout


@pytest.mark.parametrize("check", CHECKS)
def test_several_processes_equal_one(check, ran):
    passed, output = ran
    assert check in passed, output[-8000:]


def test_import_does_without_dtensor():
    code = "import sparsify.optim.linbreg, sys; sys.exit('torch.distributed.tensor' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
