"""The activation cache of a loaded model: what is recorded of the probe prompts, and the file that it goes to."""

import json
from pathlib import Path

import torch
from _job import Job, JobError
from _model import BAD_INPUT, Loaded, progress
from safetensors.torch import save_file
from torch import Tensor

from safety_geometry.activations import T_INST, record
from safety_geometry.chat import Rendered
from safety_geometry.contrast import behaviour_means, large_enough
from safety_geometry.models import DTYPES

SETS = ("fit_harmful", "fit_benign", "select_harmful", "select_benign")


def positions(params: dict) -> list[int | str]:
    return [*params["positions"], T_INST]


def activations(
    loaded: Loaded, prompts: dict[str, list[Rendered]], params: dict, labels: Path | None = None
) -> dict[str, Tensor]:
    """`fit.*` and `select.*` [n, P, L+1, d] per prompt in params.dtype, `mean.*` [P, L+1, d] of the fit prompts in float32.

    With `labels` also `refused.*` [n] (1: the checkpoint refuses the fit prompt), and `mean.refused` and `mean.complied` over
    harmful and benign prompts together, unless one of these classes has fewer than params.class_min prompts.
    """
    tensors, fit = {}, []
    for name in SETS:
        bar = progress(len(prompts[name]), f"activations {name}")
        try:
            found = record(
                loaded.runner, prompts[name], positions(params), params["batch_size"], loaded.chat.n_prefix, bar
            )
        except BAD_INPUT as error:
            raise JobError(
                f"--{name.replace('_', '-')}: {error}; see activations.positions in the configuration"
            ) from error
        split, label = name.split("_")
        stored = found.to(DTYPES[params["dtype"]])
        if not torch.isfinite(stored).all():
            raise JobError(f"activations overflow {params['dtype']}; set activations.dtype to bfloat16 or float32")
        tensors[f"{split}.{label}"] = stored.contiguous()
        if split == "fit":
            tensors[f"mean.{label}"] = found.double().mean(0).float()
            fit.append(found)
    if labels is not None:
        tensors |= by_behaviour(fit, labels, params["class_min"])
    return tensors


def by_behaviour(fit: list[Tensor], labels: Path, least: int) -> dict[str, Tensor]:
    """`fit`: activations of the harmful and of the benign prompts."""
    known = json.loads(labels.read_text())
    refused = [torch.tensor(known[label], dtype=torch.bool) for label in ("harmful", "benign")]
    if [len(x) for x in refused] != [len(x) for x in fit]:
        raise JobError(
            f"{labels}: {[len(x) for x in refused]} labels for {[len(x) for x in fit]} prompts; make it again"
        )
    out = {f"refused.{c}": x.to(torch.uint8) for c, x in zip(("harmful", "benign"), refused, strict=True)}
    if large_enough(torch.cat(refused), least):
        out["mean.refused"], out["mean.complied"] = behaviour_means(torch.cat(fit), torch.cat(refused))
    return out


def publish(job: Job, path: Path, tensors: dict[str, Tensor]) -> None:
    with job.publish(path) as scratch:
        save_file(tensors, scratch, {"positions": json.dumps(positions(job.params))})
