"""A direction taken out of a model's weights: neither a block nor the embedding writes it into the residual stream."""

import numpy as np
import torch
from torch import nn

from safety_geometry.models.configuration import ModelError
from safety_geometry.models.runner import Runner


@torch.no_grad()
def orthogonalise(model: nn.Module, direction: np.ndarray) -> None:
    """Replace, in place, every matrix W that writes into the stream by W − r(rᵀW), r = `direction` [d] of any length:
    the embedding, and each block's output of attention and MLP with its bias.

    The model is then what ablation by λ = 1 makes of it wherever something is written (Arditi et al., arXiv
    2406.11717), but for rounding in its dtype. An embedding that is the output matrix too is copied first: what is read
    from the stream stays. Raises ModelError for a family that norms what is written (Gemma 2 and 3, OLMo 2 and 3): W
    alone does not decide it there.
    """
    runner = Runner(model)
    for layer in runner.layers:
        if hasattr(layer, "post_feedforward_layernorm"):
            raise ModelError(
                f"model type {model.config.model_type!r} has norms behind attention and MLP, which turn what is"
                " written; its weights cannot be made orthogonal to a direction. Ablate it while the model runs"
            )
    d = runner.d
    if direction.shape != (d,):
        raise ModelError(f"the direction has {direction.shape} numbers, and the model's stream is {d} wide")
    unit = torch.from_numpy(direction.astype(np.float64)).to(runner.device)
    unit = unit / unit.norm()
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
        model.config.tie_word_embeddings = False
    embedding.weight.copy_(_without(embedding.weight.double().T, unit).T)
    for layer in runner.layers:
        for written in (layer.self_attn.o_proj, layer.mlp.down_proj):
            written.weight.copy_(_without(written.weight.double(), unit))
            if written.bias is not None:
                written.bias.copy_(_without(written.bias.double()[:, None], unit)[:, 0])


def _without(columns: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Columns [d, k] less what they have of `unit` [d]."""
    return columns - unit[:, None] * (unit @ columns)[None]
