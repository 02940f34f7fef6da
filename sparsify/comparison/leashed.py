"""Runs a command of ours that ends when the process does that started it.

`python -m sparsify.comparison.leashed PARENT train …`, where PARENT is that process. A worker of
Ray's may be killed at any moment, and nobody would know of the training that it had started.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs what follows on the command line, as `python -m sparsify` does."""
    parent = int(sys.argv.pop(1))
    # Processes of Ray's ignore it, and what is ignored is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:  # else it has ended already
        runpy.run_module("sparsify", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
