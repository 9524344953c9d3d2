"""One forward pass, block by block: with `families.py` the only place that knows what a decoder looks like inside.

Every measurement of this project (activation caches, candidate scores, interventions, generation, attacks, and the
training loss) goes through `Runner`, so that all of them can restart at a block's input, share the keys and values of
a common prefix, edit the residual stream per row, and compute logits only where they are read.

Supported through Hugging Face's own modules: the families of `families.py`. A model with LoRA layers injected by peft
works as well, with gradients.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safety_geometry.models.configuration import context_of
from safety_geometry.models.families import SLIDING, UnsupportedModel, family_of
from safety_geometry.models.graphs import Graphs
from safety_geometry.models.key_values import KeyValues, SlotKeyValues

Edit = Callable[[int, Tensor], Tensor]
"""(layer, residual stream [B, T, d] at the block's input) -> edited stream, same shape. Must not write in place."""


class ContextError(ValueError):
    """A text has more tokens than the model's context. One plain line."""


class NotFinite(FloatingPointError):
    """A model's numbers are infinite or none: whatever was made of them would look like an answer and be none."""

    def __init__(self, dtype: torch.dtype):
        name = str(dtype).removeprefix("torch.")
        why = (
            "its activations exceed what float16 can hold; set model.dtype to bfloat16 or float32"
            if dtype == torch.float16
            else "its weights are damaged, its training diverged, or a steering strength is too large"
        )
        super().__init__(f"the model's logits are not finite in {name}: {why}")


def all_finite(tensor: Tensor) -> bool:
    """Neither NaN nor infinite anywhere: one pass, without a mask as large as the tensor; NaN comes through."""
    return not tensor.numel() or bool(torch.isfinite(torch.stack(tensor.aminmax())).all())


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids without the shared prefix.

    ids [B, T]; lengths [B] (tokens of each row that are not padding); prefix: the P shared leading tokens.
    """

    ids: Tensor
    lengths: Tensor
    prefix: tuple[int, ...]

    @property
    def last(self) -> Tensor:
        """Index in T of each row's last token, [B]."""
        return self.lengths - 1


def common_prefix(rows: Sequence[Sequence[int]], limit: int) -> int:
    """How many leading tokens, `limit` at the most, all rows have in common; at least one token of every row stays."""
    limit, first = min(limit, min(map(len, rows)) - 1), rows[0]
    return next((t for t in range(limit) if any(row[t] != first[t] for row in rows)), max(limit, 0))


def pack(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu", share: int = 0) -> Batch:
    """Right-pad `rows` after taking off their longest common prefix, `share` tokens at the most.

    At least one token of every row stays. Padding is never seen by real tokens: attention is causal.
    """
    shared = common_prefix(rows, share)
    lengths = torch.tensor([len(row) - shared for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row) - shared] = torch.tensor(row[shared:])
    return Batch(ids.to(device), lengths.to(device), tuple(rows[0][:shared]))  # in one go each


class Runner:
    """Block-wise forward of a causal language model.

    graphs: passes without gradients replay their blocks as CUDA graphs wherever a shape comes again (`graphs.py`); the
    weights then have to stay where they are.

    Raises:
        UnsupportedModel: the family is unknown, or a block, norm or head is not where it should be.
    """

    def __init__(self, model: nn.Module, graphs: bool = False):
        config = model.config
        self.family = family_of(config.model_type)
        self.model, self.config, self.body = model, config, model.model
        self.layers: Sequence[nn.Module] = self.body.layers
        self.n_layers, self.d = len(self.layers), config.hidden_size
        if self.n_layers != config.num_hidden_layers or self.body.embed_tokens.weight.shape[1] != self.d:
            raise UnsupportedModel(
                f"{config.model_type}: {self.n_layers} blocks and embedding width "
                f"{self.body.embed_tokens.weight.shape[1]}, but the config says {config.num_hidden_layers} and {self.d}"
            )
        self.head_weight = model.get_output_embeddings()
        self.kinds = self.family.kinds(config)
        self.window = config.sliding_window if SLIDING in self.kinds else None
        self.eager = config._attn_implementation == "eager"
        self.context, self.context_key = context_of(config.to_dict())
        self.graphs = Graphs() if graphs else None

    @property
    def device(self) -> torch.device:
        return self.body.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.body.norm.weight.dtype

    def check_context(
        self, lengths: Sequence[int], new_tokens: int | Sequence[int] = 0, names: Sequence[str] | None = None
    ) -> None:
        """Whether prompts of these lengths, and as many new tokens behind each, fit into the model's context.

        names: of the prompts, for the message (their places, unless given). A model that states no context has none.

        Raises:
            ContextError: one does not. Beyond its context a model answers something, and nothing says that it is noise.
        """
        if self.context is None:
            return
        limits = [new_tokens] * len(lengths) if isinstance(new_tokens, int) else new_tokens
        long = [i for i, (n, more) in enumerate(zip(lengths, limits, strict=True)) if n + more > self.context]
        if long:
            i = long[0]
            room = f"the model's context of {self.context} tokens ({self.context_key})"
            if limits[i]:
                room += f" less {limits[i]} for the answer"
            others = f", and so do {len(long) - 1} more" if len(long) > 1 else ""
            raise ContextError(
                f"prompt {names[i] if names else f'{i + 1} of {len(lengths)}'} has {lengths[i]} tokens, more than"
                f" {room}{others}; take it out of its set or shorten it, or use a model with a longer context"
            )

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [B, T] -> the input of block 0, [B, T, d]."""
        return self.body.embed_tokens(ids)

    def blocks(
        self,
        h: Tensor,
        start: int = 0,
        stop: int | None = None,
        cache: KeyValues | SlotKeyValues | None = None,
        past: int = 0,
        positions: Tensor | None = None,
        visible: Tensor | None = None,
        slots: Tensor | None = None,
        edit: Edit | None = None,
        tap: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Run blocks start … stop−1 on h [B, T, d], the input of block `start`.

        Args:
            past: number S₀ of cached tokens before h; the query of token t sees the cached ones and tokens ≤ t.
            positions: [1 or B, T] rotary positions; default past … past+T−1.
            visible: [B, 1, T, S₀+T] boolean, replaces the causal default (for left-padded generation).
            slots: [T], where the tokens stand among those of `visible`; default: they are the last ones.
            edit: changes the input of each block (an intervention).
            tap: is shown the (edited) input of each block ℓ as (ℓ, h), and the output of the last one as (stop, h).
        Returns:
            The input of block `stop` (the output of the last block before the final norm if stop is None), [B, T, d].
        Raises:
            ContextError: a row is longer than the model's context.
        """
        stop = self.n_layers if stop is None else stop
        length = h.shape[1]
        if visible is None and positions is None:  # else padding counts: `generate` looks at each prompt
            self.check_context([past + length], names=["(the longest of a batch)"])
        if positions is None:
            positions = torch.arange(past, past + length, device=h.device)[None]
        masks = {kind: self._mask(kind, past, visible, slots, h) for kind in set(self.kinds)}
        rotary = self._rotary(h, positions)
        static = None
        if self.graphs is not None:
            static = self.graphs.prepare(self.layers, range(start, stop), h, masks, rotary, cache)
        for layer in range(start, stop):
            if edit is not None:
                h = edit(layer, h)
            if tap is not None:
                tap(layer, h if static is None else h.clone())
            if static is None:
                h = self.block(layer, h, masks, rotary, cache, positions)
            else:
                h = static(self.block, layer, h)
        if static is not None:
            h = h.clone()  # the next pass writes where this one did
        if tap is not None:
            tap(stop, h)
        return h

    def block(
        self,
        layer: int,
        h: Tensor,
        masks: dict[str, Tensor | None],
        rotary: dict[str, tuple[Tensor, Tensor]],
        cache: KeyValues | SlotKeyValues | None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Block `layer` alone on h [B, T, d], with masks and rotary embeddings by kind of attention."""
        kind = self.kinds[layer]
        return self.layers[layer](
            h, attention_mask=masks[kind], position_ids=positions, past_key_values=cache,
            use_cache=cache is not None, position_embeddings=rotary[kind],
        )  # fmt: skip

    @contextlib.contextmanager
    def scaled_branches(self, scale: float | None) -> Iterator[None]:
        """Within: gradients that go back through attention and MLP are multiplied by `scale` (None: left as they are).
        What goes back along the skip connections stays, and so do all values."""

        def scaled(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            h = output[0] if isinstance(output, tuple) else output
            if h.requires_grad:
                h.register_hook(lambda gradient: scale * gradient)

        branches = [] if scale is None else [b for layer in self.layers for b in (layer.self_attn, layer.mlp)]
        handles = [branch.register_forward_hook(scaled) for branch in branches]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def logits(self, h: Tensor) -> Tensor:
        """Next-token logits [..., V] in float32 of final hidden states [..., d]; read only where they are needed.

        Raises:
            NotFinite: one of them is infinite or NaN (argmax would take token 0). What overflows in a block stays so to
                the end.
        """
        z = self.head_weight(self.body.norm(h)).float()
        self.check_finite(z)
        cap = getattr(self.config, "final_logit_softcapping", None)
        return z if cap is None else cap * torch.tanh(z / cap)

    def check_finite(self, values: Tensor) -> None:
        """Raise NotFinite unless all values that are read are finite."""
        if not values.is_meta and not all_finite(values.detach()):
            raise NotFinite(self.dtype)

    def prefix(
        self, ids: Sequence[int], start: int = 0, h: Tensor | None = None, edit: Edit | None = None
    ) -> KeyValues | None:
        """Keys and values of a shared prefix (None if it is empty).

        With `h` [R, P, d], the prefix's stream at the input of block `start`, only the blocks from there on are run.
        """
        if not len(ids):
            return None
        if h is None:
            h = self.embed(torch.tensor([list(ids)], device=self.device))
        cache = KeyValues(record=True)
        self.blocks(h, start=start, cache=cache, edit=edit)
        return KeyValues(past=cache.now)

    def forward(
        self, batch: Batch, cache: KeyValues | None = None, edit: Edit | None = None, tap=None, stop: int | None = None
    ):
        """Final hidden states [B, T, d] of a packed batch; the shared prefix is run once unless `cache` has it."""
        if batch.prefix and cache is None:
            cache = self.prefix(batch.prefix, edit=edit)
        return self.blocks(self.embed(batch.ids), stop=stop, cache=cache, past=len(batch.prefix), edit=edit, tap=tap)

    def _rotary(self, h: Tensor, positions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return self.family.rotary(self.body.rotary_emb, h, positions, self.kinds)

    def _mask(self, kind: str, past: int, visible: Tensor | None, slots: Tensor | None, h: Tensor) -> Tensor | None:
        """Additive mask [1 or B, 1, T, S], or None where the plain causal kernel is the same thing."""
        length = h.shape[1]
        window = self.window if kind == SLIDING else None
        narrow = window is not None and past + length > window
        if visible is None:
            if not narrow and not self.eager and (not past or length == 1):
                return None
            query = torch.arange(past, past + length, device=h.device)
            key = torch.arange(past + length, device=h.device)
            visible = (key[None] <= query[:, None])[None, None]
        if narrow:
            key = torch.arange(visible.shape[-1], device=h.device)
            query = key[-length:] if slots is None else slots
            visible = visible & (key[None] > query[:, None] - window)
        return torch.zeros(visible.shape, dtype=h.dtype, device=h.device).masked_fill(
            ~visible, torch.finfo(h.dtype).min
        )
