"""Python programs that start at once: forks of a process that has imported torch."""

import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys

import torch

_SUBREAPER = 36  # of prctl: the children of a process that has ended become ours
_HIGH = 1000  # and above are numbers of files that are in nobody's way


@functools.cache
def nursery():
    """The socket of a process that forks programs on demand.

    It must be made before anything is computed: autograd works in no fork of a process in which
    it has worked.
    """
    ours, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    if os.fork() == 0:
        gc.freeze()  # nothing that is collected later may close a file by its former number
        _close_all_but(0, 1, 2, others.fileno())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while _serve(others):
            pass
        os._exit(0)
    others.close()
    return ours


class Fork(subprocess.Popen):
    """Stands in for `Popen`: a Python program runs in a fork, whatever else is started as ever."""

    def _execute_child(self, args, executable, preexec, close, pass_fds, cwd, env, *others):
        # The parameters are those of `Popen` from Python 3.11 on.
        if args[0] != sys.executable or torch.cuda.is_initialized():
            super()._execute_child(args, executable, preexec, close, pass_fds, cwd, env, *others)
            return
        pipes, (new_session, _) = others[3:9], others[-2:]
        files = [pipes[0], pipes[3], pipes[5], *pass_fds]
        files = [number if file < 0 else file for number, file in enumerate(files)]
        request = {
            "arguments": [os.fspath(each) for each in args[1:]],
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(cwd or os.getcwd()),
            "numbers": [0, 1, 2, *pass_fds],
            "new_session": new_session,
        }
        socket.send_fds(nursery(), [pickle.dumps(request)], files)
        self.pid = int(nursery().recv(64))
        self._child_created = True
        self._close_pipe_fds(*pipes)


def _serve(ours):
    """Forks one program; false if nobody is there to ask for more."""
    request, received, _, _ = socket.recv_fds(ours, 1 << 20, 64)
    if not request:
        return False
    files = [fcntl.fcntl(file, fcntl.F_DUPFD, _HIGH) for file in received]
    importlib.import_module("torch._dynamo")  # as every optimizer does, in seconds
    told, tell = os.pipe()
    if (between := os.fork()) == 0:  # ends at once, so that the program is a child of who asked
        if (program := os.fork()) == 0:
            _become(files=files, **pickle.loads(request))
        os.write(tell, str(program).encode())
        os._exit(0)
    os.waitpid(between, 0)
    ours.send(os.read(told, 64))
    for number in (told, tell, *received, *files):
        os.close(number)
    return True


def _become(files, arguments, environment, folder, numbers, new_session):
    """Runs what follows `python` on a command line in this process, to its end."""
    if new_session:
        os.setsid()
    for file, number in zip(files, numbers, strict=True):
        os.dup2(file, number)
    _close_all_but(*numbers)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nursery.cache_clear()
    subprocess.Popen = Fork
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
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


def _close_all_but(*numbers):
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in numbers:
            with contextlib.suppress(OSError):  # the listing itself
                os.close(number)
