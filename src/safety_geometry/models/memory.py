"""Batches that fit the device: halved when memory runs out, and on a GPU doubled while that makes rows faster."""

import gc
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Protocol
from weakref import WeakSet

import torch

GAIN = 1.1  # what twice the rows have to bring: tokens a second over those of half as many


class LessMemory(UserWarning):
    """Memory ran out and the batch was halved. Results are right, but rounded as those of the smaller batch are."""


class BatchSize:
    """Rows of one forward pass: as many as asked for, halved whenever memory runs out.

    Only a GPU's allocator tells that memory ran out (torch.OutOfMemoryError), so on a CPU it is a constant. Where it
    `grows`, the passes themselves are timed: twice the rows are taken as long as that brings GAIN, and memory allows.
    Pass the same object to several calls and they share what the first one found out.
    """

    def __init__(
        self,
        asked: int,
        what: str,
        adaptive: bool = True,
        grows: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """`what`: whose rows these are, for the message; `adaptive`: false where a failed pass must not be tried
        again; `grows`: for passes that end with their results on the host, or the clock (seconds) tells nothing."""
        self.asked, self.what, self.rows, self.adaptive = asked, what, asked, adaptive
        self.grows, self._clock = grows, clock
        self._rate, self._doubted = 0.0, False  # tokens a second of half as many rows; whether a pass brought no gain

    @classmethod
    def of(cls, size: "int | BatchSize", what: str) -> "BatchSize":
        return size if isinstance(size, BatchSize) else cls(size, what)

    @property
    def changed(self) -> bool:
        return self.rows != self.asked

    def recall(self, used: int) -> None:
        """Go on with the rows that an earlier run of the same work ended with."""
        if used <= self.asked:
            self.rows = min(self.rows, used)
        elif self.grows:
            self.rows, self.grows = used, False

    def run(
        self, compute: Callable[[list], None], rows: Sequence, tokens: Callable[[object], float] = lambda row: 1.0
    ) -> None:
        """compute(rows), in as many parts as it takes, in order. A part that fails for memory is computed anew, halved:
        what `compute` did of it before has to be harmless.

        tokens: the work of a row, in any unit; passes are compared by it.

        Raises:
            torch.OutOfMemoryError: a single row does not fit, or the size is not `adaptive`.
        """
        rows, first = list(rows), 0
        while first < len(rows):
            part = rows[first : first + self.rows]
            begun = self._clock() if self.grows else 0.0
            try:
                compute(part)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    advice = "take a larger GPU, fewer jobs on it, or shorter prompts"
                    error.add_note(f"{self.what}: not even one row fits; {advice}")
                if not self.adaptive or len(part) == 1:
                    raise
            else:
                first += len(part)
                if self.grows and 2 * len(part) > self.rows:  # a rest of few rows says nothing of full passes
                    self._grow(sum(map(tokens, part)) / max(self._clock() - begun, 1e-9))
                continue
            self._halve(len(part))  # outside the handler, whose traceback keeps tensors alive

    def _grow(self, rate: float) -> None:
        """What to do after a full pass: double, look again, or end with the half that was as fast."""
        if rate >= GAIN * self._rate:
            self._rate, self._doubted, self.rows = rate, False, 2 * self.rows
        elif self._doubted:
            self.rows, self.grows = self.rows // 2, False
        else:
            self._doubted = True

    def _halve(self, failed: int) -> None:
        self.rows, self.grows = failed // 2, False
        release()
        if self.rows < self.asked:
            warnings.warn(
                f"{self.what}: out of memory with {failed} rows in a batch; going on with {self.rows}",
                LessMemory,
                stacklevel=3,
            )


class Holder(Protocol):
    """What holds memory that it can do without."""

    def clear(self) -> None: ...


_HOLDERS: WeakSet[Holder] = WeakSet()


def on_release(holder: Holder) -> None:
    """Have `holder` let go of its memory whenever memory runs out, for as long as it lives."""
    _HOLDERS.add(holder)


def release() -> None:
    """Give memory that nothing needs any more back to the device."""
    for holder in list(_HOLDERS):
        holder.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
