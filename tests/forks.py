"""Python programs that start at once: forks of a server that has imported what takes seconds."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path

# Where a process of the server finds this module; last, lest sources hide what is installed.
sys.path.append(str(Path(__file__).parents[1]))
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["torch._dynamo", "sparsify.cli.main", "sparsify.cli.train", "sparsify.cli.evaluate"]
)
_Popen = subprocess.Popen


def popen(args, **options):
    """Stands in for `subprocess.Popen`: whatever is no module of Python's is started as ever."""
    a_module = args[0] == sys.executable and "-m" in args
    return Program(args, **options) if a_module else _Popen(args, **options)


class Program:
    """As much of a `Popen` as comparisons and the device check need of a Python program."""

    def __init__(
        self, args, *, stdin, stdout, stderr, start_new_session=False, env=None, pass_fds=()
    ):
        assert (stdin, start_new_session) == (subprocess.DEVNULL, True)
        stderr = stdout if stderr == subprocess.STDOUT else stderr
        files = {1: stdout.fileno(), 2: stderr.fileno(), **{number: number for number in pass_fds}}
        self._process = _SERVER.Process(
            target=_become,
            args=(
                [os.fspath(each) for each in args[1:]],
                dict(os.environ if env is None else env),
                os.getcwd(),
                {number: _Shared(file) for number, file in files.items()},
            ),
        )
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        """The exit code, or the negative number of the signal, once it has ended."""
        return self._process.exitcode

    def wait(self, timeout=None):
        """Waits until it has ended."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("python", timeout)
        return self.poll()

    def send_signal(self, signal):
        """Sends it a signal."""
        os.kill(self.pid, signal)


class _Shared:
    """An open file that becomes its number in the process that it is sent to."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _received, (DupFd(self.number),)


def _received(file):
    return file.detach()


def _become(arguments, environment, folder, files):
    """Runs what follows `python` on a command line in this process."""
    os.setsid()
    for number, file in files.items():
        os.dup2(file, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    del arguments[: arguments.index("-m") + 1]
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
