"""A tiny transformer with a planted refusal direction, and prompts of its own, for tests of the selection of R.

Some tokens are harmful: their embeddings hold a component `harm`. The attention of block WRITES - 1 spreads it over all
later tokens as `refusal`, of a chosen strength; the feed-forward part of block READS reads that and writes `answer`,
which the head turns into the refusal token. So the direction is there at the inputs of blocks WRITES to READS. The
attention of block READS writes a large `topic` from `harm` as well: deeper, the difference of means is mostly that. All
else is small random weights.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from safety_geometry.artefacts.candidate_scores import Openings
from safety_geometry.geometry.activations import evaluation_layers, record
from safety_geometry.geometry.candidate_scores import Scorer, as_candidates, candidate_directions
from safety_geometry.geometry.refusal_scores import SelectionSettings, refusal_scores
from safety_geometry.geometry.selection import Rule
from safety_geometry.models.runner import Runner

LAYERS, WIDTH, VOCABULARY = 8, 32, 64
WRITES, READS = 3, 4
REFUSAL, HARMFUL_TOKENS, CONTENT, TEMPLATE = 1, range(50, 60), range(10, 50), (2, 3, 4, 5)
HARM, ANSWER, U, TOPIC = range(4)
POSITIONS = (-3, -2, -1)


@dataclass(frozen=True)
class Prompt:
    """As `Rendered`: token ids; the template stands behind the request."""

    ids: tuple[int, ...]
    t_inst: int = 0


def prompts(count: int, harmful: bool, rng: np.random.Generator) -> list[Prompt]:
    made = []
    for _ in range(count):
        ids = rng.choice(list(CONTENT), 7)
        if harmful:
            ids[rng.choice(len(ids), 2, replace=False)] = rng.choice(list(HARMFUL_TOKENS), 2)
        made.append(Prompt((*map(int, ids), *TEMPLATE)))
    return made


@torch.no_grad()
def planted_model(strength: float, seed: int) -> tuple[LlamaForCausalLM, torch.Tensor]:
    """The model, and its refusal direction [d]; strength 0: nothing is planted, and the refusal token is like any
    other."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=LAYERS, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.06, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    basis, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH))
    harm, answer, refusal, topic = basis[:, HARM], basis[:, ANSWER], basis[:, U], basis[:, TOPIC]
    embedding = model.model.embed_tokens.weight
    embedding.normal_(0, 0.5)
    embedding -= embedding @ basis[:, :4] @ basis[:, :4].T
    embedding[list(HARMFUL_TOKENS)] += 2 * harm
    if strength:
        for layer in model.model.layers:  # nothing else writes along the four directions
            for written in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
                written -= basis[:, :4] @ basis[:, :4].T @ written
        _spread(model.model.layers[WRITES - 1].self_attn, harm, strength * refusal)
        _spread(model.model.layers[READS].self_attn, harm, 6 * topic)
        mlp = model.model.layers[READS].mlp
        for weights in (mlp.gate_proj.weight, mlp.up_proj.weight):
            weights[0] = refusal
        mlp.down_proj.weight[:, 0] = answer
        model.lm_head.weight[REFUSAL] = 2 * answer
    return model.requires_grad_(False), refusal


def _spread(attention, read: torch.Tensor, write: torch.Tensor) -> None:
    """Every token gets `write` times the mean of the earlier tokens' components along `read`."""
    attention.q_proj.weight.zero_()
    values, out = attention.v_proj.weight, attention.o_proj.weight
    values[0], out[:, 0] = read, write


def chosen_from(
    strength: float,
    seed: int,
    in_charge: str = "effect",
    fit: int = 24,
    select: int = 16,
    sets: int = 20,
    min_gain: float = 0.5,
) -> SimpleNamespace:
    """Scores of a planted model's candidates, with its refusal direction and its difference of means."""
    model, direction = planted_model(strength, seed)
    runner, rng = Runner(model), np.random.default_rng(seed)
    harmful, benign = (prompts(fit, side, rng) for side in (True, False))
    asked = [prompts(select, side, rng) for side in (True, False)]
    with torch.inference_mode():
        values = [record(runner, some, POSITIONS, 64).clone() for some in (harmful, benign)]
    means = [some.mean(0) for some in values]
    every = torch.cat(values).double().numpy()
    cut = int(0.8 * LAYERS)
    candidates = as_candidates(candidate_directions(means[0] - means[1], POSITIONS, POSITIONS, range(cut)))
    scorer = Scorer(
        runner, *asked, range(cut), evaluation_layers(means[0][-1], means[1][-1], 0.2), [REFUSAL], batch_size=512
    )
    rule = Rule(in_charge, kl_max=0.1, beta_kl=1.0, max_layer=cut, min_gain={"effect": min_gain, "cosmic": 0.0})
    settings = SelectionSettings(rule, 99, 4, 8, sets, 6, [], 1, False, seed)
    labels = np.arange(2 * fit) < fit
    openings = Openings(2 * select, select, select, True, 1, 0.9, 0.9)
    scores = refusal_scores(
        scorer,
        candidates,
        lambda position, layer: every[:, POSITIONS.index(position), layer],
        labels,
        openings,
        settings,
    )
    return SimpleNamespace(
        scores=scores, rule=rule, direction=direction.numpy(), delta=(means[0] - means[1]).numpy(), openings=openings
    )
