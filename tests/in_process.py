"""Candidates of a benchmark that run in the process of the test: to start one takes seconds."""

from typing import ClassVar

from sparsify.benchmarks.inference import child


class Runner:
    """Stands in for `sparsify.benchmarks.inference.runner.Runner`; remembers every turn."""

    turns: ClassVar = []

    def __init__(self, candidate, threads):
        self.candidate = candidate
        self._request = {**candidate.spec, "threads": threads}
        self._answers = child._answers(self._requests())

    def _requests(self):
        while True:
            yield self._request

    def wait(self):
        next(self._answers)

    def turn(self, batch, frames, calls):
        self.turns.append(self.candidate)
        self._request = {"batch": batch, "frames": frames, "calls": calls}
        answer = next(self._answers)
        return answer["times"], answer["peak_bytes"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
