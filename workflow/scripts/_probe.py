"""The activation cache of a loaded model: what is recorded of the probe prompts, and the file that it goes to.

Activations go from the model to the file batch by batch: of a large model those of all prompts, positions and layers would not
fit into memory.
"""

import json
from pathlib import Path

import torch
from _job import Job, JobError
from _model import BAD_INPUT, Loaded, batch_size, progress
from torch import Tensor

from safety_geometry.activations import T_INST, RunningMean, stream
from safety_geometry.chat import Rendered
from safety_geometry.contrast import large_enough
from safety_geometry.models import DTYPES
from safety_geometry.tensor_file import Shapes, TensorFile

SETS = ("fit_harmful", "fit_benign", "select_harmful", "select_benign")
CLASSES = ("harmful", "benign")


def positions(params: dict) -> list[int | str]:
    return [*params["positions"], T_INST]


def write_activations(
    job: Job, path: Path, loaded: Loaded, prompts: dict[str, list[Rendered]], labels: Path | None = None, whole: bool = True
) -> dict[str, Tensor]:  # fmt: skip
    """Write the cache and return its means.

    `fit.*` and `select.*` [n, P, L+1, d] per prompt in params.dtype, `mean.*` [P, L+1, d] of the fit prompts in float32. Not
    `whole`: a twelfth of the size, what the carriers and their validation scores are made of and nothing to resample: no `fit.*`,
    and `select.*.POSITION` [n, L+1, d] at params.select_position only.
    With `labels` also `refused.*` [n] (1: the checkpoint refuses the fit prompt), and `mean.refused` and `mean.complied` over
    harmful and benign prompts together, unless one of these classes has fewer than params.class_min prompts.
    """
    p = job.params
    site = (len(positions(p)), loaded.runner.n_layers + 1, loaded.runner.d)
    refused = {} if labels is None else read_labels(labels, prompts)
    means = {f"mean.{c}": RunningMean(site) for c in CLASSES}
    if refused and large_enough(torch.cat(list(refused.values())), p["class_min"]):
        means |= {f"mean.{c}": RunningMean(site) for c in ("refused", "complied")}
    at = None if whole else positions(p).index(p["select_position"])
    shapes = layout(p, prompts, site, list(means), list(refused), whole)
    size = batch_size(job, "activations", p["batch_size"])
    try:
        with job.publish(path) as scratch, TensorFile(scratch, shapes, {"positions": json.dumps(positions(p))}) as file:
            for name in SETS:
                split, label = name.split("_")

                def keep(rows: list[int], values: Tensor, split=split, label=label) -> None:
                    if split == "fit":
                        means[f"mean.{label}"].add(values)
                        if "mean.refused" in means:
                            for kind, side in (("refused", refused[label][rows]), ("complied", ~refused[label][rows])):
                                means[f"mean.{kind}"].add(values[side])
                    if whole:
                        file.write(f"{split}.{label}", values, rows)
                    elif split == "select":
                        file.write(f"select.{label}.{p['select_position']}", values[:, at], rows)

                try:
                    bar = progress(len(prompts[name]), f"activations {name}")
                    stream(loaded.runner, prompts[name], positions(p), size, keep, loaded.chat.n_prefix, bar)
                except BAD_INPUT as error:
                    raise JobError(
                        f"--{name.replace('_', '-')}: {error}; see activations.positions in the configuration"
                    ) from error
            found = {name: mean.value() for name, mean in means.items()}
            for name, values in (found | {f"refused.{c}": x.to(torch.uint8) for c, x in refused.items()}).items():
                file.write(name, values)
    except OverflowError as error:
        raise JobError(f"activations overflow {p['dtype']}; set activations.dtype to bfloat16 or float32") from error
    return found


def layout(
    params: dict, prompts: dict[str, list[Rendered]], site: tuple[int, int, int], means: list[str], refused: list[str],
    whole: bool,
) -> Shapes:  # fmt: skip
    """Type and shape of every tensor of a cache."""
    shapes = dict.fromkeys(means, (torch.float32, site))
    shapes |= {f"refused.{label}": (torch.uint8, (len(prompts[f"fit_{label}"]),)) for label in refused}
    for name in SETS if whole else SETS[2:]:
        place = site if whole else site[1:]
        suffix = "" if whole else f".{params['select_position']}"
        shapes[name.replace("_", ".") + suffix] = (DTYPES[params["dtype"]], (len(prompts[name]), *place))
    return shapes


def read_labels(labels: Path, prompts: dict[str, list[Rendered]]) -> dict[str, Tensor]:
    """[n] bool of the harmful and of the benign fit prompts: those that are refused."""
    try:
        known = json.loads(labels.read_text(encoding="utf-8"))
        refused = {label: torch.tensor(known[label], dtype=torch.bool) for label in CLASSES}
    except (ValueError, TypeError, KeyError) as error:
        raise JobError(f"{labels} holds no labels of {' and '.join(CLASSES)} prompts; make it again") from error
    sizes = [len(prompts[f"fit_{label}"]) for label in CLASSES]
    if [len(x) for x in refused.values()] != sizes:
        raise JobError(f"{labels}: {[len(x) for x in refused.values()]} labels for {sizes} prompts; make it again")
    return refused
