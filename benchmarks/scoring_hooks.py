"""Candidate scoring the plain way, the peer of scoring.py: whole prompts, one candidate at a time, hooks."""

import numpy as np
import torch

from safety_geometry.artefacts.candidate_scores import CandidateScores
from safety_geometry.models.generation import length_batches

Sites = dict[tuple[int, int], torch.Tensor]


def naive(model, harmful, benign, sites: Sites, evaluated: list[int], batch_size: int) -> CandidateScores:
    """One candidate and one operation at a time; harmful and benign prompts are ablated in the same batches."""
    n, order = len(harmful), sorted(sites)
    both = [p.ids for p in (*harmful, *benign)]
    clean, log_p = hooked(model, both, evaluated, batch_size)
    ablated, added, kl = [], [], []
    for site in order:
        vector = sites[site].to(model.device, model.dtype)
        unit = vector / vector.norm()
        sums, log_q = hooked(model, both, evaluated, batch_size, site[0], lambda x, u=unit: x - (x @ u)[..., None] * u)
        ablated.append(sums[:n])
        kl.append((log_p[n:].exp() * (log_p[n:] - log_q[n:])).double().sum(-1).float())
        added.append(
            hooked(model, both[n:], evaluated, batch_size, site[0], lambda x, v=vector: x + v, logits=False)[0]
        )
    norms, stacked = torch.stack([sites[s].norm() for s in order]), map(torch.stack, (ablated, added, kl))
    tensors = (norms, *stacked, clean[:n], clean[n:])
    layers, positions = np.array(order).T
    return CandidateScores(layers, positions, *(each.cpu().numpy() for each in tensors), model.config.num_hidden_layers)


def hooked(model, rows, evaluated, batch_size, layer=None, change=None, logits=True):
    """Sums of the evaluation layers' last-token outputs [n, d] and log p of the next token [n, V] of whole prompts."""
    device = model.device
    sums, log_p = torch.zeros(len(rows), model.config.hidden_size, device=device), [None] * len(rows)
    for chunk in length_batches([len(r) for r in rows], batch_size):
        width = max(len(rows[i]) for i in chunk)
        ids = torch.zeros(len(chunk), width, dtype=torch.long)
        mask = torch.zeros(len(chunk), width, dtype=torch.long)
        for k, i in enumerate(chunk):
            ids[k, width - len(rows[i]) :] = torch.tensor(rows[i])
            mask[k, width - len(rows[i]) :] = 1
        total = []
        blocks = model.model.layers
        final = len(blocks) - 1
        hooks = [
            blocks[e].register_forward_hook(
                lambda module, args, out, t=total, last=(e == final): t.append(
                    model.model.norm(out[:, -1]) if last else out[:, -1]  # the last output is compared after the norm
                )
            )
            for e in evaluated
        ]
        if change is not None:
            hooks.append(blocks[layer].register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:])))
        out = (model if logits else model.model)(
            input_ids=ids.to(device), attention_mask=mask.to(device),
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(device), use_cache=False,
            **({"logits_to_keep": 1} if logits else {}),
        )  # fmt: skip
        for hook in hooks:
            hook.remove()
        sums[chunk] = sum(x.float() for x in total)
        if logits:
            for k, i in enumerate(chunk):
                log_p[i] = out.logits[k, -1].float().log_softmax(-1)
    return sums, torch.stack(log_p) if logits else None
