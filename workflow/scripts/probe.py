"""Activation cache and candidate scores of the refusal directions of one anchor, or of an aligned model.

--labels: which fit prompts it refuses (fit_labels.py); the candidates are then differences between refused and other
prompts, and there is none where one of these classes has fewer than params.class_min. params: model, positions, dtype
(of the per-prompt activations), batch_size; layers, candidate_positions, coefficient, evaluation_share, removal,
score_batch, answer_batch; selection (SelectionSettings).
"""

from _job import Job, JobError, explained
from _model import batch_size, load, progress, rendered, reported

from safety_geometry.artefacts.activations import CLASSES, SETS, Activations
from safety_geometry.artefacts.candidate_scores import write_scores
from safety_geometry.artefacts.fit_labels import read_fit_labels
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.geometry.activations import CacheSettings, cache_activations
from safety_geometry.geometry.candidate_scores import candidate_layers
from safety_geometry.geometry.probing import Probe
from safety_geometry.judges.refusal import classify
from safety_geometry.models.positions import T_INST


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", *SETS, "labels?"], outputs=["activations", "scores"])
    params, loaded = job.params, load(job, job.adapter)
    runner, limit = loaded.runner, params["selection"]["answer_tokens"]
    chosen = None if params["layers"] == "all" else params["layers"]
    try:
        layers = candidate_layers(chosen, params["max_layer_fraction"], runner.n_layers)
    except ValueError as error:
        raise JobError(f"refusal.{error}") from error
    rows = {name: read_jsonl(getattr(job, name)) for name in SETS}
    prompts = {name: rendered(loaded, each, limit if "select" in name else 0) for name, each in rows.items()}
    counts = {label: len(prompts[f"fit_{label}"]) for label in CLASSES}
    refused = None if job.labels is None else read_fit_labels(job.labels, counts)
    settings = CacheSettings((*params["positions"], T_INST), params["dtype"], class_min=params.get("class_min", 0))
    size = batch_size(job, "activations", params["batch_size"])
    with reported(), job.publish(job.activations) as scratch:
        cache_activations(scratch, runner, prompts, settings, size, refused, loaded.chat.n_prefix, progress)
    probe = Probe(loaded, Activations(job.activations), layers, params)
    scores = None
    if probe.cache.r_classes() is not None:  # else there is no candidate: the labels beside the activations say why
        asked = [prompts[f"select_{label}"] for label in CLASSES]
        texts = [row["prompt"] for row in rows["select_harmful"][:3]]
        answers = batch_size(job, "answers", params["answer_batch"])
        size = batch_size(job, "candidate scores", params["score_batch"])
        with explained(ValueError, of="sweep.openings and the scores of R's candidates"):
            scores = probe.scores(*asked, texts, lambda text: classify(text) != "none", answers, size, progress)
    job.write(job.scores, write_scores, scores, runner.n_layers)


if __name__ == "__main__":
    main()
