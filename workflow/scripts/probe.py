"""Activation cache and candidate scores of the refusal directions of one anchor, or of an aligned model.

--labels: which fit prompts it refuses (fit_labels.py); the candidates are then differences between refused and other prompts,
and there is none where one of these classes has fewer than params.class_min. params: model, positions, dtype (of the
per-prompt activations), batch_size; layers, candidate_positions, validation, coefficient, evaluation_share, score_batch. See safety_geometry.activations and .scoring for the contents.
"""

from dataclasses import asdict

from _job import Job, JobError
from _model import batch_size, load, progress
from _probe import SETS, positions, write_activations
from safetensors.torch import save_file
from torch import Tensor

from safety_geometry.activations import evaluation_layers
from safety_geometry.scoring import score_candidates


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", *SETS, "labels?"], outputs=["activations", "scores"])
    loaded = load(job, job.adapter)
    grid = candidate_layers(job.params, loaded.runner.n_layers)
    prompts = {name: loaded.prompts(getattr(job, name)) for name in SETS}
    means = write_activations(job, job.activations, loaded, prompts, job.labels)
    classes = ("harmful", "benign") if job.labels is None else ("refused", "complied")
    if f"mean.{classes[0]}" in means:
        delta = means[f"mean.{classes[0]}"] - means[f"mean.{classes[1]}"]
        scores = score(job, loaded, means, delta, prompts, grid)
    else:
        scores = {}  # no candidate: the labels beside the activations say why
    with job.publish(job.scores) as scratch:
        save_file(scores, scratch, {"n_layers": str(loaded.runner.n_layers)})


def candidate_layers(params: dict, n_layers: int) -> list[int]:
    """Raises JobError for a layer that the model does not have."""
    if params["layers"] == "all":
        return list(range(int(params["max_layer_fraction"] * n_layers)))
    if beyond := [layer for layer in params["layers"] if layer >= n_layers]:
        raise JobError(f"refusal.layers {beyond} do not exist: the model has blocks 0 to {n_layers - 1}")
    return params["layers"]


def score(job: Job, loaded, means: dict, delta: Tensor, prompts: dict, grid: list[int]) -> dict[str, Tensor]:
    """Scores of the candidates `delta` [P, L+1, d] at the layers `grid`; what they are scored by is harmful and benign prompts, whatever they are."""
    p, at = job.params, positions(job.params)
    last = at.index(-1)
    layers = evaluation_layers(means["mean.harmful"][last], means["mean.benign"][last], p["evaluation_share"])
    directions = {(ell, q): delta[at.index(q), ell] for ell in grid for q in p["candidate_positions"]}
    # A direction that is zero (layer 0 at a template token, the same for every prompt) is no candidate.
    directions = {site: v for site, v in directions.items() if v.norm() > 0}
    n = p["validation"]
    scores = score_candidates(
        loaded.runner, directions, prompts["select_harmful"][:n], prompts["select_benign"][:n], layers, p["coefficient"],
        batch_size(job, "candidate scores", p["score_batch"]), loaded.chat.n_prefix, progress(3 * n * len(directions), "candidate scores"),
    )  # fmt: skip
    return {name: t.contiguous() for name, t in asdict(scores).items()}


if __name__ == "__main__":
    main()
