"""Batches that shrink when memory runs out: the work goes on with half the rows, and says so."""

import gc
import warnings
from collections.abc import Callable, Sequence

import torch


class LessMemory(UserWarning):
    """Memory ran out and the batch was halved. Results are right, but rounded as those of the smaller batch are."""


class BatchSize:
    """Rows of one forward pass: as many as asked for, halved whenever memory runs out, and never grown again.

    Only a GPU's allocator tells that memory ran out (torch.OutOfMemoryError), so on a CPU it is a constant. Pass the
    same object to several calls and they share what the first one found out.
    """

    def __init__(self, asked: int, what: str, adaptive: bool = True):
        """`what`: whose rows these are, for the message; `adaptive`: false where a failed pass must not be tried
        again."""
        self.asked, self.what, self.rows, self.adaptive = asked, what, asked, adaptive

    @classmethod
    def of(cls, size: "int | BatchSize", what: str) -> "BatchSize":
        return size if isinstance(size, BatchSize) else cls(size, what)

    @property
    def changed(self) -> bool:
        return self.rows != self.asked

    def run(self, compute: Callable[[list], None], rows: Sequence) -> None:
        """compute(rows), in as many parts as it takes, in order. A part that fails for memory is computed anew, halved:
        what `compute` did of it before has to be harmless.

        Raises:
            torch.OutOfMemoryError: a single row does not fit, or the size is not `adaptive`.
        """
        queue = [list(rows)]
        while queue:
            part = queue.pop(0)
            if len(part) > self.rows:
                queue[:0] = [part[i : i + self.rows] for i in range(0, len(part), self.rows)]
                continue
            try:
                compute(part)
                continue
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    error.add_note(f"{self.what}: not even one row fits; take a larger GPU or shorter prompts")
                if not self.adaptive or len(part) == 1:
                    raise
            self._halve(len(part))  # outside the handler, whose traceback keeps tensors alive
            queue.insert(0, part)

    def _halve(self, failed: int) -> None:
        self.rows = failed // 2
        release()
        warnings.warn(
            f"{self.what}: out of memory with {failed} rows in a batch; going on with {self.rows}",
            LessMemory,
            stacklevel=3,
        )


def release() -> None:
    """Give memory that nothing holds any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
