"""Activation cache of a checkpoint, and at anchors the candidate scores of its refusal directions.

params: model, positions, dtype (of the per-prompt activations), batch_size; with --scores also layers, candidate_positions,
validation, coefficient, evaluation_share, score_batch. See safety_geometry.activations and .scoring for the contents.
"""

import json
from dataclasses import asdict

import torch
from _job import Job, JobError
from _model import BAD_INPUT, load, progress
from safetensors.torch import save_file

from safety_geometry.activations import T_INST, evaluation_layers, record
from safety_geometry.models import DTYPES
from safety_geometry.scoring import score_candidates


def main() -> None:
    sets = ("fit_harmful", "fit_benign", "select_harmful", "select_benign")
    job = Job(__doc__, inputs=["model", "adapter?", *sets], outputs=["activations", "scores?"])
    loaded, p = load(job, job.adapter), job.params
    positions = [*p["positions"], T_INST]
    tensors, prompts = {}, {}
    for name in sets:
        prompts[name] = loaded.prompts(getattr(job, name))
        bar = progress(len(prompts[name]), f"activations {name}")
        try:
            found = record(loaded.runner, prompts[name], positions, p["batch_size"], loaded.chat.n_prefix, bar)
        except BAD_INPUT as error:
            raise JobError(
                f"--{name.replace('_', '-')}: {error}; see activations.positions in the configuration"
            ) from error
        split, label = name.split("_")
        stored = found.to(DTYPES[p["dtype"]])
        if not torch.isfinite(stored).all():
            raise JobError(f"activations overflow {p['dtype']}; set activations.dtype to bfloat16 or float32")
        tensors[f"{split}.{label}"] = stored.contiguous()
        if split == "fit":
            tensors[f"mean.{label}"] = found.double().mean(0).float()
    with job.publish(job.activations) as scratch:
        save_file(tensors, scratch, {"positions": json.dumps(positions)})
    if job.scores is not None:
        write_scores(job, loaded, tensors, prompts, positions)


def write_scores(job: Job, loaded, tensors: dict, prompts: dict, positions: list) -> None:
    p = job.params
    delta = tensors["mean.harmful"] - tensors["mean.benign"]
    last = positions.index(-1)
    layers = evaluation_layers(tensors["mean.harmful"][last], tensors["mean.benign"][last], p["evaluation_share"])
    grid = p["layers"]
    if grid == "all":
        grid = range(int(p["max_layer_fraction"] * loaded.runner.n_layers))
    beyond = [layer for layer in grid if layer >= loaded.runner.n_layers]
    if beyond:
        raise JobError(f"refusal.layers {beyond} do not exist: the model has blocks 0 to {loaded.runner.n_layers - 1}")
    directions = {(ell, q): delta[positions.index(q), ell] for ell in grid for q in p["candidate_positions"]}
    # A direction that is zero (layer 0 at a template token, the same for every prompt) is no candidate.
    directions = {site: v for site, v in directions.items() if v.norm() > 0}
    n = p["validation"]
    scores = score_candidates(
        loaded.runner, directions, prompts["select_harmful"][:n], prompts["select_benign"][:n], layers, p["coefficient"],
        p["score_batch"], loaded.chat.n_prefix, progress(3 * n * len(directions), "candidate scores"),
    )  # fmt: skip
    with job.publish(job.scores) as scratch:
        values = {name: t.contiguous() for name, t in asdict(scores).items()}
        save_file(values, scratch, {"n_layers": str(loaded.runner.n_layers)})


if __name__ == "__main__":
    main()
