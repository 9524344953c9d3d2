"""Answers drawn at a temperature, each from a stream of its own: batches and their order change no draw."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from safety_geometry.models.answers import Question, answer_suites
from safety_geometry.models.chat import Rendered
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize
from safety_geometry.stats.seeds import derived_seed


class Sampling:
    """How `generate` chooses tokens: with probabilities softmax(logits / temperature), by the inverse of their
    cumulated sum, at uniform draws of each prompt's own stream."""

    def __init__(self, temperature: float, seeds: Sequence[int], limit: int):
        """temperature > 0; seeds: of each prompt's stream, in the order of the prompts; limit: the most tokens of an
        answer."""
        self.temperature = temperature
        self.draws = torch.tensor(np.stack([np.random.default_rng(seed).random(limit) for seed in seeds]))

    def __call__(self, logits: Tensor, prompts: Sequence[int], length: int) -> Tensor:
        """Ids [B] of the next tokens of the answers to these prompts, which have so many: from logits [B, V]. In
        float64, where rounding hardly moves a draw across a token's border."""
        draws = self.draws[list(prompts), length, None].to(logits.device)
        whole = torch.softmax(logits.double() / self.temperature, -1).cumsum(-1)
        places = torch.searchsorted(whole, draws * whole[:, -1:], right=True)[:, 0]
        return places.clamp(max=logits.shape[-1] - 1)


def sampled_answers(
    model: LanguageModel, questions: Sequence[Question], prompts: Sequence[Rendered], limit: int,
    batch_size: int | BatchSize, n: int, temperature: float, seed: int, **options,
) -> list[dict]:  # fmt: skip
    """Rows of n answers, up to `limit` tokens, to each of `questions`, whose rendered prompts are `prompts`; `arm` is
    sample1 … sample<n>.

    A stream's seed is the SHA-256 of `seed`, the prompt's id and the sample's number. options: progress of `generate`.
    """
    places = [(k, i) for k in range(1, n + 1) for i in range(len(questions))]
    drawn = [(questions[i][0], questions[i][1] | {"arm": f"sample{k}"}) for k, i in places]
    seeds = [derived_seed(seed, "sample", row["id"], row["arm"]) for _, row in drawn]
    limits = dict.fromkeys((suite for suite, _ in questions), limit)
    choose = Sampling(temperature, seeds, limit)
    return answer_suites(model, drawn, [prompts[i] for _, i in places], limits, batch_size, choose=choose, **options)
