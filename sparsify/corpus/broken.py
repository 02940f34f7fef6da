"""What happens when a file turns out broken in the middle of a training."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Collection
from hashlib import blake2b

from sparsify.audio.parallel import PROCESSES
from sparsify.errors import SparsifyError

logger = logging.getLogger(__name__)

# Beyond this the trouble is not a few files.
_TOLERATED = 10
_TOLERATED_SHARE = 0.01


class BrokenFiles:
    """The utterances that cannot be decoded, known to all loader processes.

    Args:
        utterances: How many there are in all.
        strict: Tolerate none.
    """

    def __init__(self, utterances: int, *, strict: bool = False) -> None:
        self.strict = strict
        self._tolerated = _TOLERATED + int(_TOLERATED_SHARE * utterances)
        # How many there are, then a digest of each one's key.
        context = multiprocessing.get_context(PROCESSES)
        self._shared = context.Array("Q", self._tolerated + 2)

    @property
    def count(self) -> int:
        """How many there are so far."""
        return int(self._shared[0])

    @property
    def digests(self) -> frozenset[int]:
        """One number for each, the same in all processes."""
        return frozenset(self._shared[1 : self.count + 1])

    def remember(self, digests: Collection[int]) -> None:
        """Adds what was found broken before an interruption, as far as it is tolerated."""
        kept = sorted(self.digests.union(digests))[: self._tolerated]
        self._shared[: len(kept) + 1] = [len(kept), *kept]

    def __contains__(self, key: object) -> bool:
        return self.count > 0 and _digest(str(key)) in self.digests

    def report(self, key: str, error: SparsifyError) -> None:
        """Logs an utterance that cannot be decoded, once for all processes.

        Raises:
            SparsifyError: There are too many of them, or `strict`.
        """
        if self.strict:
            raise error
        with self._shared.get_lock():
            if key in self:
                return
            self._shared[0] += 1
            self._shared[self.count] = _digest(key)
            count = self.count
        if count > self._tolerated:
            raise SparsifyError(
                f"{count} utterances cannot be decoded, the last because of this: {error}; mend or"
                " leave out all of them (sparsify data prepare --verify finds them)"
            )
        logger.warning("skipping an utterance: %s", error)


def _digest(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest())
