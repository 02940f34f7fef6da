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
    "table",
    "hsdp",
    "two_dimensions",
]

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


@pytest.fixture(scope="module")
def folder(once):
    """Where those checks have left a file that have passed, and what was printed."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": loopback}

    def run(folder):
        with (folder / "output").open("w") as output:
            command = [sys.executable, WORKER, folder]
            streams = {"stdout": output, "stderr": subprocess.STDOUT}
            subprocess.run(command, env=os.environ | settings, check=False, timeout=300, **streams)

    return once("distributed_optimizers", run)


@pytest.mark.parametrize("check", CHECKS)
def test_several_processes_equal_one(check, folder):
    assert (folder / check).exists(), (folder / "output").read_text()[-8000:]


def test_import_does_without_dtensor():
    code = "import sparsify.optim.linbreg, sys; sys.exit('torch.distributed.tensor' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
