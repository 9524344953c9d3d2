"""Cells of a causal sweep the plain way, the peer of sweep.py: whole prompts, one cell at a time, hooks."""

import torch

from safety_geometry.models.generation import length_batches
from safety_geometry.models.interventions import Intervention


def hook(model, item: Intervention):
    u, strength = item.basis[0].to(model.device), item.strength

    def change(module, args):
        return (args[0] - strength * (args[0] @ u)[..., None] * u, *args[1:])

    return model.model.layers[item.layer].register_forward_pre_hook(change)


def hooked(model, prompts, item: Intervention, size: int, side: str) -> torch.Tensor:
    """Last-position logits [n, V] of whole prompts. `left` pads with a mask; `right` without one: tokens see no padding."""
    handle, out = hook(model, item), [None] * len(prompts)
    for chunk in length_batches([len(p) for p in prompts], size):
        width = max(len(prompts[i]) for i in chunk)
        ids, mask = (torch.zeros(len(chunk), width, dtype=torch.long, device=model.device) for _ in range(2))
        for k, i in enumerate(chunk):
            start = width - len(prompts[i]) if side == "left" else 0
            ids[k, start : start + len(prompts[i])] = torch.tensor(prompts[i])
            mask[k, start : start + len(prompts[i])] = 1
        if side == "left":
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            found = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1).logits[:, -1]  # fmt: skip
        else:
            h = model.model(input_ids=ids, use_cache=False).last_hidden_state
            found = model.lm_head(h[torch.arange(len(chunk), device=h.device), mask.sum(1) - 1])
            if cap := getattr(model.config, "final_logit_softcapping", None):
                found = cap * torch.tanh(found / cap)
        for k, i in enumerate(chunk):
            out[i] = found[k]
    handle.remove()
    return torch.stack(out)


def greedy(model, prompts, item: Intervention, stops, limit: int) -> list[list[int]]:
    """Greedy answers of one cell: left padding, Hugging Face's cache, a hook on every pass."""
    handle, width = hook(model, item), max(map(len, prompts))
    ids, mask = (torch.zeros(len(prompts), width, dtype=torch.long, device=model.device) for _ in range(2))
    for k, prompt in enumerate(prompts):
        ids[k, width - len(prompt) :], mask[k, width - len(prompt) :] = torch.tensor(prompt), 1
    answers, ended, cache = [[] for _ in prompts], [False] * len(prompts), None
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    for _ in range(limit):
        out = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )  # fmt: skip
        cache, ids = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
        for k, token in enumerate(ids[:, 0].tolist()):
            ended[k] = ended[k] or token in stops
            if not ended[k]:
                answers[k].append(token)
        if all(ended):
            break
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], 1)
        positions = positions[:, -1:] + 1
    handle.remove()
    return answers
