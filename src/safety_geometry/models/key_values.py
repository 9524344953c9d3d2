"""Keys and values of earlier tokens, with the `update` method that Hugging Face attention calls."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class KeyValues:
    """Keys and values by layer.

    `past` holds what earlier tokens left, each [R, kv heads, S, head dim]; `rows` maps every row of the batch to its
    row of `past` (None: R is 1 and shared by all, or R equals the batch). With `record=True` the new keys and values
    are kept in `now`.
    """

    def __init__(
        self, past: dict[int, tuple[Tensor, Tensor]] | None = None, rows: Tensor | None = None, record: bool = False
    ):
        self.past, self.rows, self.record = past or {}, rows, record
        self.now: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_, **__) -> tuple[Tensor, Tensor]:
        if self.record:
            self.now[layer_idx] = (keys, values)
        if layer_idx not in self.past:
            return keys, values
        return tuple(torch.cat([self._spread(old, len(new)), new], dim=2)
                     for old, new in zip(self.past[layer_idx], (keys, values), strict=True))  # fmt: skip

    def _spread(self, past: Tensor, batch: int) -> Tensor:
        return past[self.rows] if self.rows is not None else past.expand(batch, -1, -1, -1)


class SlotKeyValues:
    """Preallocated keys and values for decoding: writes the new tokens at `offset`, returns all up to them.

    Avoids the copy of the whole cache that concatenation makes at every decoded token.
    """

    shrinks = True
    """Whether rows may be dropped (`keep`)."""

    def __init__(self, length: int):
        self.length, self.offset = length, 0
        self.slots: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_, **__) -> tuple[Tensor, Tensor]:
        if layer_idx not in self.slots:
            shape = (len(keys), keys.shape[1], self.length, keys.shape[3])
            self.slots[layer_idx] = (keys.new_zeros(shape), values.new_zeros(shape))
        end = self.offset + keys.shape[2]
        for slot, new in zip(self.slots[layer_idx], (keys, values), strict=True):
            slot[:, :, self.offset : end] = new
        return tuple(slot[:, :, :end] for slot in self.slots[layer_idx])

    def next_token(self, real: Tensor) -> tuple[Tensor, Tensor | None]:
        """Before one more token a row: the slots that it sees, [n, S], of those that hold no padding (`real` [n,
        length]); and its slot, [1], where it is not the last of them."""
        return real[:, : self.offset + 1], None

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        self.slots = {layer: (k[rows], v[rows]) for layer, (k, v) in self.slots.items()}


class StaticKeyValues(SlotKeyValues):
    """The same with one shape and one place in memory for all steps, as a CUDA graph needs it: a step writes at the
    slot that a tensor names and returns all slots, those behind it to be masked. Rows stay to the end."""

    shrinks = False

    def __init__(self, length: int, device: torch.device):
        super().__init__(length)
        self.places = torch.arange(length, device=device)
        self.slot = torch.zeros(1, dtype=torch.long, device=device)
        self.stepping = False

    def restart(self) -> None:
        """Be as new, in the same memory. Zeros, since what is masked has to be finite."""
        self.offset, self.stepping = 0, False
        for pair in self.slots.values():
            for slot in pair:
                slot.zero_()

    def next_token(self, real: Tensor) -> tuple[Tensor, Tensor]:
        self.stepping = True
        self.slot.fill_(self.offset)
        return real & (self.places <= self.offset), self.slot

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_, **__) -> tuple[Tensor, Tensor]:
        if not self.stepping:
            return super().update(keys, values, layer_idx)
        with _any_algorithm():
            for slot, new in zip(self.slots[layer_idx], (keys, values), strict=True):
                slot.index_copy_(2, self.slot, new)
        return self.slots[layer_idx]


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """One slot is written, once: its order cannot matter, and CUDA's deterministic way is to sort first."""
    asked, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=warn)
