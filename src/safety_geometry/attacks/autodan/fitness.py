"""How well whole prompts do at making a given answer opening likely: the fitness of AutoDAN's prompts."""

import hashlib
import math
from collections.abc import Sequence

import torch

from safety_geometry.attacks.autodan.mutation import fill
from safety_geometry.models.chat import ChatFormat, Rendered, TemplateError
from safety_geometry.models.generation import by_length
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner, pack
from safety_geometry.models.token_log_p import token_log_p


def digest(text: str) -> str:
    """128 bits of the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Fitness:
    """Mean target cross-entropy of templates filled with one request, lower is better; every text is scored once.

    Prompts run in batches sorted by length, after the template's common prefix, with logits at the target only. A
    prompt that cannot be rendered, is too long, or whose loss is not finite, has none (None).
    """

    def __init__(
        self, runner: Runner, chat: ChatFormat, request: str, target: str, batch_size: int | BatchSize, limit: int
    ):
        self.runner, self.chat, self.request, self.target = runner, chat, request, target
        self.size, self.limit = BatchSize.of(batch_size, "AutoDAN's prompts"), limit
        self.seen: dict[str, float | None] = {}
        self.tokens, self.prefix, self.cache = 0, (), None

    @property
    def dropped(self) -> int:
        return sum(loss is None for loss in self.seen.values())

    @property
    def evaluated(self) -> int:
        return len(self.seen) - self.dropped

    def state(self) -> dict:
        """What a resumed attack needs: the losses by digest of the text, so that a text seen before stays seen; and the
        rows of a pass where they are not those asked for."""
        other = self.size.rows if self.size.changed else None
        return {"seen": self.seen, "tokens": self.tokens, "prefix": self.prefix, "other_rows": other}

    def restore(self, state: dict) -> None:
        self.seen, self.tokens, self.prefix = dict(state["seen"]), state["tokens"], tuple(state["prefix"])
        self.size.recall(state["other_rows"] or self.size.asked)

    @torch.inference_mode()
    def __call__(self, templates: Sequence[str]) -> list[float | None]:
        keys = [digest(t) for t in templates]
        new = {key: t for key, t in zip(keys, templates, strict=True) if key not in self.seen}
        rendered = self._render([fill(t, self.request) for t in new.values()])
        rows = {key: r for key, r in zip(new, rendered, strict=True) if r is not None}
        self.seen |= dict.fromkeys(new)
        order = list(rows)

        def compute(batch: list[int]) -> None:
            chosen = [order[i] for i in batch]
            for key, loss in zip(chosen, self._losses([rows[key] for key in chosen]), strict=True):
                self.seen[key] = loss if math.isfinite(loss) else None

        lengths = [len(rows[key].ids) for key in order]
        self.size.run(compute, by_length(lengths), lengths.__getitem__)
        return [self.seen[key] for key in keys]

    @torch.inference_mode()
    def plain(self, template: str) -> float:
        """The loss of one template by one forward pass over its whole conversation: no prefix, no batch, not cached."""
        (r,) = self._render([fill(template, self.request)])
        self.tokens += len(r.ids)
        h = self.runner.blocks(self.runner.embed(torch.tensor([r.ids], device=self.runner.device)))
        labels = torch.tensor(r.ids[r.response :], device=self.runner.device)
        # torch's own mean: it rounds otherwise than the mean of `token_log_p`
        return float(torch.nn.functional.cross_entropy(self.runner.logits(h[0, r.response - 1 : -1]), labels))

    def _render(self, prompts: list[str]) -> list[Rendered | None]:
        """Conversations with the target, without the end of turn after it; None for those that are dropped."""
        try:
            conversations = self.chat.render_many(prompts, [self.target] * len(prompts))
        except TemplateError:  # one of them; the others are still good
            conversations = []
            for prompt in prompts:
                try:
                    conversations.append(self.chat.render(prompt, self.target))
                except TemplateError:
                    conversations.append(None)
        out = []
        for r in conversations:
            if r is not None:
                r = Rendered(r.ids[:-1] if r.ids[-1] in self.chat.stop_ids else r.ids, r.t_inst, r.response, r.merged)
            out.append(r if r is not None and r.response <= self.limit and r.response < len(r.ids) else None)
        return out

    def _losses(self, rows: list[Rendered]) -> list[float]:
        batch = pack(
            [r.ids for r in rows], self.runner.device, min(self.chat.n_prefix, min(r.response for r in rows) - 1)
        )
        past = len(batch.prefix)
        if batch.prefix != self.prefix:
            self.prefix, self.cache = batch.prefix, None
            self.tokens += past
        if self.cache is None:
            self.cache = self.runner.prefix(batch.prefix)
        h = self.runner.forward(batch, cache=self.cache)
        self.tokens += int(batch.lengths.sum())
        lines = torch.tensor([i for i, r in enumerate(rows) for _ in r.ids[r.response :]], device=h.device)
        columns = torch.tensor([t - past for r in rows for t in range(r.response, len(r.ids))], device=h.device)
        logits = self.runner.logits(h[lines, columns - 1])
        each = -token_log_p(logits, batch.ids[lines, columns])
        return [float(part.mean()) for part in each.cpu().split([len(r.ids) - r.response for r in rows])]
