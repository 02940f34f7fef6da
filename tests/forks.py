"""Python programs that start at once: forks of the tests' process, which has imported torch."""

import contextlib
import gc
import importlib
import os
import runpy
import subprocess
import sys

import torch


class Fork(subprocess.Popen):
    """Stands in for `Popen`: a Python program runs in a fork, whatever else is started as ever."""

    def __init__(self, args, *, env=None, pass_fds=(), **options):
        environment = dict(os.environ if env is None else env)

        def program():
            # The other side waits until its files are closed here, which a new program does.
            for number in map(int, os.listdir("/proc/self/fd")):
                if number > 2 and number not in pass_fds:
                    with contextlib.suppress(OSError):  # the listing itself
                        os.close(number)
            os.environ.clear()
            os.environ.update(environment)
            _become([os.fspath(each) for each in args[1:]])

        # CUDA does not survive a fork.
        if args[0] == sys.executable and not torch.cuda.is_initialized():
            importlib.import_module("torch._dynamo")  # as every optimizer does, in seconds
            options["preexec_fn"] = program
        super().__init__(args, env=env, pass_fds=pass_fds, **options)


def _become(arguments):
    """Runs what follows `python` on a command line in this process, to its end."""
    gc.enable()
    subprocess.Popen = Fork
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    while arguments[0] in ("-P", "-u"):
        del arguments[0]
    code = 0
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif arguments[0] == "-c":
            exec(arguments[1], {"__name__": "__main__"})
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.__excepthook__(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
