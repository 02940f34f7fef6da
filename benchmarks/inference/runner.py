"""The other end of `child`: starts the process, asks it, and makes sure that it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from sparsify.benchmarks.inference.candidates import Candidate
from sparsify.errors import SparsifyError
from sparsify.texts import signal_name

CHILD = "sparsify.benchmarks.inference.child"
PATIENCE = 300.0  # seconds that an answer may take
_CHUNK = 1 << 16
_TAIL = 2000  # characters of what a process said last


class Runner:
    """A process with one candidate, which computes only when it is asked.

    Args:
        candidate: What it measures.
        threads: Threads per call.
    """

    def __init__(self, candidate: Candidate, threads: int) -> None:
        self.candidate = candidate
        self._said = TemporaryFile()  # noqa: SIM115 - closed with the process
        self._unread = b""
        threads_of = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
        self._process = subprocess.Popen(
            # -P: what lies in the current folder must not stand in for an installed module.
            [sys.executable, "-P", "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={
                "OMP_WAIT_POLICY": "PASSIVE",
                **os.environ,
                **dict.fromkeys(threads_of, str(threads)),
            },
            # Ctrl-C reaches the asking process alone, which then ends this one.
            start_new_session=True,
        )
        self._send(**candidate.spec, threads=threads)

    def wait(self) -> None:
        """Waits until it has read its file.

        Raises:
            SparsifyError: It cannot.
        """
        self._receive()

    def turn(self, batch: int, frames: int, calls: int) -> tuple[list[float], int]:
        """Milliseconds of some calls, and the peak of its memory for that shape, in bytes.

        Raises:
            SparsifyError: It has failed, died or does not answer.
        """
        self._send(batch=batch, frames=frames, calls=calls)
        answer = self._receive()
        return answer["times"], answer["peak_bytes"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def _send(self, **request: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self) -> dict[str, Any]:
        line = self._line()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            said = answer["error"].replace(str(self.candidate.path), str(self.candidate.given))
            raise SparsifyError(f"{self.candidate.label}: {said}")
        return answer

    def _line(self) -> bytes:
        """The next line, which must not take for ever."""
        assert self._process.stdout is not None
        number, end = self._process.stdout.fileno(), time.monotonic() + PATIENCE
        while b"\n" not in self._unread:
            ready, _, _ = select.select([number], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise SparsifyError(
                    f"{self.candidate.label} has not answered for {PATIENCE:.0f} s: give fewer"
                    " --frames or a smaller --batch"
                )
            chunk = os.read(number, _CHUNK)
            if not chunk:
                raise self._ended()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _ended(self) -> SparsifyError:
        code = self._process.wait()
        if code < 0:
            why = f"was ended by {signal_name(-code)}"
            if -code == signal.SIGKILL:
                why += ", perhaps because memory ran out"
            return SparsifyError(f"{self.candidate.label} {why}")
        self._said.seek(0)
        said = self._said.read().decode("utf-8", errors="replace")[-_TAIL:].strip()
        last = said.splitlines()[-1] if said else f"exit code {code}"
        return SparsifyError(f"{self.candidate.label} has ended: {last}")
