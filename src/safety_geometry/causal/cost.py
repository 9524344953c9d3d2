"""What a change of a model costs: KL on benign prompts, refusals, and how helpful its answers are, before and after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from safety_geometry.causal.readout import clean_prompts
from safety_geometry.judges.judging import judge_rows
from safety_geometry.models.answers import answer_suites
from safety_geometry.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class Measured:
    """log_p [n, V]: of the token after each benign prompt; refused_harmful, refused_benign, utility (0 to 2, rules of
    the items): means over the answers."""

    log_p: torch.Tensor
    refused_harmful: float
    refused_benign: float
    utility: float


def measure(
    model: LanguageModel, harmful: Sequence[dict], benign: Sequence[dict], limits: Mapping[str, int], batch_size: int
) -> Measured:
    """harmful, benign: prompts of roles direct and utility; limits: tokens of an answer by these suites. Refusals by
    the rules."""
    questions = [("direct", row) for row in harmful] + [("utility", row) for row in benign]
    prompts = model.render_rows([row for _, row in questions], max(limits.values()))
    judged = judge_rows(answer_suites(model, questions, prompts, limits, batch_size), "cost")
    refused = judged.groupby("suite")["any_refusal"].mean()
    ids = [prompt.ids for prompt in prompts[len(harmful) :]]
    run = clean_prompts(model.runner, ids, (), model.chat.n_prefix)
    log_p = torch.log_softmax(model.runner.logits(run.final).double(), -1).cpu()
    return Measured(log_p, float(refused["direct"]), float(refused["utility"]), float(np.nanmean(judged["utility"])))


def cost(model: LanguageModel, change: Callable[[], None], *asked) -> dict[str, float]:
    """Of a change that is made to the model in place, by the arguments of `measure`: `kl` (before ‖ after, nats, mean
    over benign prompts), and what is measured as it was and as it is."""
    before = measure(model, *asked)
    change()
    after = measure(model, *asked)
    kl = (before.log_p.exp() * (before.log_p - after.log_p)).sum(-1).mean()
    values = {"kl": float(kl), "harmful": len(asked[0]), "benign": len(asked[1])}
    for name in ("refused_harmful", "refused_benign", "utility"):
        values |= {f"{name}_before": getattr(before, name), f"{name}_after": getattr(after, name)}
    return values
