"""Activation cache and candidate scores of the refusal directions of one anchor, or of an aligned model.

--labels: which fit prompts it refuses (fit_labels.py); the candidates are then differences between refused and other
prompts, and there is none where one of these classes has fewer than params.class_min. params: model, positions, dtype
(of the per-prompt activations), batch_size; layers, candidate_positions, validation, coefficient, evaluation_share,
score_batch.
"""

from _job import Job, JobError
from _model import batch_size, load, progress, rendered, reported

from safety_geometry.artefacts.activations import CLASSES, SETS
from safety_geometry.artefacts.candidate_scores import write_scores
from safety_geometry.artefacts.fit_labels import read_fit_labels
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.geometry.activations import CacheSettings, cache_activations, evaluation_layers
from safety_geometry.geometry.candidate_scores import candidate_directions, candidate_layers, score_candidates
from safety_geometry.models.positions import T_INST


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", *SETS, "labels?"], outputs=["activations", "scores"])
    params, loaded = job.params, load(job, job.adapter)
    runner, share = loaded.runner, loaded.chat.n_prefix
    chosen = None if params["layers"] == "all" else params["layers"]
    try:
        layers = candidate_layers(chosen, params["max_layer_fraction"], runner.n_layers)
    except ValueError as error:
        raise JobError(f"refusal.{error}") from error
    prompts = {name: rendered(loaded, read_jsonl(getattr(job, name))) for name in SETS}
    counts = {label: len(prompts[f"fit_{label}"]) for label in CLASSES}
    refused = None if job.labels is None else read_fit_labels(job.labels, counts)
    settings = CacheSettings((*params["positions"], T_INST), params["dtype"], class_min=params.get("class_min", 0))
    size = batch_size(job, "activations", params["batch_size"])
    with reported(), job.publish(job.activations) as scratch:
        means = cache_activations(scratch, runner, prompts, settings, size, refused, share, progress)
    scores, (first, second) = None, CLASSES if refused is None else ("refused", "complied")
    if first in means:  # else there is no candidate: the labels beside the activations say why
        last, n = settings.positions.index(-1), params["validation"]
        evaluated = evaluation_layers(means["harmful"][last], means["benign"][last], params["evaluation_share"])
        delta = means[first] - means[second]
        directions = candidate_directions(delta, settings.positions, params["candidate_positions"], layers)
        size = batch_size(job, "candidate scores", params["score_batch"])
        bar = progress(3 * n * len(directions), "candidate scores")
        harmful, benign = (prompts[f"select_{label}"][:n] for label in CLASSES)
        scores = score_candidates(
            runner, directions, harmful, benign, evaluated, params["coefficient"], size, share, bar
        )
    job.write(job.scores, write_scores, scores, runner.n_layers)


if __name__ == "__main__":
    main()
