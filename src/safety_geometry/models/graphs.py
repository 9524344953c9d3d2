"""Blocks replayed as CUDA graphs: a small model's block takes a GPU less time than Python takes to launch it.

A graph is one block at one shape. What happens between blocks (edits, taps) and after them (norm, head) is run as ever,
so that interventions need no graph of their own, and passes from any block to any other share graphs. Shapes are
rounded up, so that few of them come, and what is added is masked. A block is captured when its shape comes for the
second time; the first time it is run in the same place and shape, so that no result depends on what came before. On a
CPU the same code runs, and what stands for the graph is the block itself.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from safety_geometry.models import memory
from safety_geometry.models.key_values import KeyValues, SlotKeyValues, StaticKeyValues

TOKENS, SLOTS = 8, 32  # multiples that rows, tokens and their past, and slots of a decoding cache are rounded up to
SHAPES, CACHES = 32, 2  # kept, those used last

Masks = dict[str, Tensor | None]
Rotary = dict[str, tuple[Tensor, Tensor]]
Replay = Callable[[], object]
Key, Value = TypeVar("Key"), TypeVar("Value")


class GraphError(RuntimeError):
    """CUDA cannot capture a block. One plain line."""


class Graphs:
    """What one runner has captured; `counts` says how much."""

    def __init__(self):
        self.counts = Counts()
        self._passes: dict[tuple, StaticPass] = {}
        self._caches: dict[tuple[int, int], StaticKeyValues] = {}
        self._capture = Capture(self.counts)
        memory.on_release(self)

    def clear(self) -> None:
        """Forget all shapes and give their memory back."""
        self._passes.clear()
        self._caches.clear()
        self._capture = Capture(self.counts)

    def slots(self, rows: int, length: int, device: torch.device) -> StaticKeyValues:
        """A decoding cache of so many rows and at least so many slots: the one that the last batch of this shape had,
        emptied."""
        length = _up(length, SLOTS)
        cache = _latest(self._caches, (rows, length), lambda: StaticKeyValues(length, device), CACHES)
        cache.restart()
        self._passes = {key: each for key, each in self._passes.items() if key[1] is None or key[1] in self._caches}
        return cache

    def prepare(
        self,
        layers: Sequence[nn.Module],
        span: range,
        h: Tensor,
        masks: Masks,
        rotary: Rotary,
        cache: KeyValues | SlotKeyValues | None,
    ) -> "StaticPass | None":
        """The pass through blocks `span` that replays them, loaded with everything but h; None where it is to be run as
        without graphs: it has gradients, keys and values are recorded, a prompt fills a decoding cache, or someone put
        a hook of PyTorch on a block."""
        if torch.is_grad_enabled() or any(layers[i]._forward_hooks or layers[i]._forward_pre_hooks for i in span):
            return None
        past, place = None, None
        if isinstance(cache, KeyValues):
            if cache.record or any(i not in cache.past for i in span):
                return None
            past = cache
        elif cache is not None:
            place = next((place for place, each in self._caches.items() if each is cache and cache.stepping), None)
            if place is None:
                return None
        shape = Shape.of(h, masks, rotary, past, exact=place is not None)
        key = (shape, place)
        static = _latest(self._passes, key, lambda: StaticPass(self._capture, shape, h, cache), SHAPES)
        static.load(h, masks, rotary, past)
        return static


@dataclass
class Counts:
    """Of blocks captured and replayed; on a CPU, where there is no graph, as if."""

    captured: int = 0
    replayed: int = 0


class Capture:
    """Captures on a stream of its own; all graphs share one pool of memory, since they run one after the other and none
    leaves anything in it."""

    def __init__(self, counts: Counts):
        self.counts, self.stream, self.pool = counts, None, None

    def __call__(self, run: Callable[[], Tensor], into: Tensor) -> Replay:
        """What does `into.copy_(run())` again each time that it is called."""
        self.counts.captured += 1
        if into.device.type != "cuda":
            return lambda: into.copy_(run())
        current = torch.cuda.current_stream()
        first = self.stream is None
        if first:
            self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            if first:
                run()  # libraries set up what they keep for a stream
            graph = torch.cuda.CUDAGraph()
            # Not torch.cuda.graph, which empties the allocator's cache at each of the many captures.
            graph.capture_begin(self.pool, capture_error_mode="thread_local")
            try:
                into.copy_(run())
            except BaseException as error:
                with contextlib.suppress(RuntimeError):
                    graph.capture_end()
                if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
                    told = str(error).partition("\n")[0]
                    raise GraphError(
                        f"a block cannot be captured as a CUDA graph ({told}); run without graphs"
                    ) from error
                raise
            graph.capture_end()
        current.wait_stream(self.stream)
        return graph.replay


@dataclass(frozen=True)
class Shape:
    """Of a pass, rounded up: rows, tokens, past tokens, rows of the past and whether rows are mapped to them; by kind
    of attention the rows and slots of its mask (None: no mask) and the rows of its rotary embeddings."""

    rows: int
    tokens: int
    past: int
    past_rows: int
    mapped: bool
    masks: tuple[tuple[str, tuple[int, int] | None], ...]
    rotary: tuple[tuple[str, int], ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, h: Tensor, masks: Masks, rotary: Rotary, past: KeyValues | None, exact: bool) -> "Shape":
        """exact: nothing is rounded, for a decoding cache."""
        b, t = h.shape[:2]
        rows = b if exact or b < TOKENS else _up(b, TOKENS)
        tokens = t if exact or t == 1 else _up(t, TOKENS)
        length, past_rows, mapped = 0, 0, False
        if past is not None:
            keys = next(iter(past.past.values()))[0]
            length, mapped = _up(keys.shape[2], TOKENS), past.rows is not None
            past_rows = _up(len(keys), TOKENS) if mapped else 1 if len(keys) == 1 else rows
        filled = past is not None and length != keys.shape[2]  # then even a token that sees all needs a mask

        def mask(m: Tensor | None) -> tuple[int, int] | None:
            if m is None:
                return (1, length + tokens) if filled else None
            return 1 if len(m) == 1 else rows, m.shape[-1] if exact else length + tokens

        return cls(
            rows, tokens, length, past_rows, mapped,
            tuple((kind, mask(masks[kind])) for kind in sorted(masks)),
            tuple((kind, 1 if len(rotary[kind][0]) == 1 else rows) for kind in sorted(rotary)),
            h.dtype,
        )  # fmt: skip


class StaticPass:
    """A pass of one shape: its inputs at fixed places in memory, and the replays of its blocks, which write their
    output where they read their input."""

    def __init__(self, capture: Capture, shape: Shape, h: Tensor, cache: KeyValues | StaticKeyValues | None):
        self.capture, self.shape = capture, shape
        self.replays: dict[int, Replay] = {}
        self.ran: set[int] = set()
        self.h = self._zeros(h, shape.rows, shape.tokens, h.shape[-1])
        self.view = self.h
        self.masks = {
            kind: None if size is None else self._zeros(h, size[0], 1, shape.tokens, size[1])
            for kind, size in shape.masks
        }
        self.rotary: Rotary = {}
        self.past: KeyValues | None = None
        self.copied: dict[int, tuple[Tensor, Tensor]] = {}  # what the past of each block was copied from
        self.cache = cache
        if isinstance(cache, KeyValues):
            rows = self._zeros(cache.rows, shape.rows) if shape.mapped else None
            self.cache = KeyValues(rows=rows)

    @staticmethod
    def _zeros(like: Tensor, *shape: int) -> Tensor:
        with torch.inference_mode(False):  # such a tensor can be written in any mode
            return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def load(self, h: Tensor, masks: Masks, rotary: Rotary, past: KeyValues | None) -> None:
        """Take over everything but h itself, which the first block brings."""
        b, t = h.shape[:2]
        self.view, self.past = self.h[:b, :t], past
        if self.view.shape != self.h.shape:
            self.h.zero_()
        old = next(iter(past.past.values()))[0].shape[2] if past is not None else 0
        for kind, static in self.masks.items():
            if static is not None:
                self._load_mask(static, masks[kind], b, t, old)
        for kind, rows in self.shape.rotary:
            if kind not in self.rotary:
                self.rotary[kind] = tuple(self._zeros(x, rows, self.shape.tokens, x.shape[-1]) for x in rotary[kind])
            for static, new in zip(self.rotary[kind], rotary[kind], strict=True):
                static[: len(new), :t].copy_(new)
        if self.shape.mapped:
            self.cache.rows.zero_()[:b].copy_(past.rows)

    def _load_mask(self, static: Tensor, mask: Tensor | None, b: int, t: int, old: int) -> None:
        """What was added is seen by nothing but itself: an added query may see everything, since nobody reads it."""
        if mask is not None and static.shape == mask.shape:
            static.copy_(mask)
            return
        part = static.zero_()[:b, :, :t]
        part.fill_(torch.finfo(static.dtype).min)
        for new, first in ((slice(0, old), 0), (slice(old, old + t), self.shape.past)):
            part[..., first : first + new.stop - new.start] = 0 if mask is None else mask[..., new]

    def __call__(self, block: Callable[..., Tensor], layer: int, h: Tensor) -> Tensor:
        """block(layer, h [B, T, d], masks, rotary, cache), replayed: a view of this pass's memory, good until its next
        block. It is not kept, and with it the model, once it is captured."""
        if h is not self.view:
            self.view.copy_(h)
        if self.past is not None:
            self._load_past(layer, self.past.past[layer])

        def run() -> Tensor:
            return block(layer, self.h, self.masks, self.rotary, self.cache)

        if layer not in self.ran:
            self.h.copy_(run())
            self.ran.add(layer)
            return self.view
        if layer not in self.replays:
            self.replays[layer] = self.capture(run, self.h)
        self.replays[layer]()
        self.capture.counts.replayed += 1
        return self.view

    def _load_past(self, layer: int, pair: tuple[Tensor, Tensor]) -> None:
        if self.copied.get(layer) is pair:
            return
        if layer not in self.cache.past:
            self.cache.past[layer] = tuple(
                self._zeros(x, self.shape.past_rows, x.shape[1], self.shape.past, x.shape[3]) for x in pair
            )
        for static, new in zip(self.cache.past[layer], pair, strict=True):
            static[: len(new), :, : new.shape[2]].copy_(new)
            static[:, :, new.shape[2] :].zero_()
        self.copied[layer] = pair


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _latest(held: dict[Key, Value], key: Key, make: Callable[[], Value], most: int) -> Value:
    """held[key], made if it is not there; of more than `most` the one goes that was asked for longest ago."""
    held[key] = value = held.pop(key) if key in held else make()
    if len(held) > most:
        del held[next(iter(held))]
    return value
