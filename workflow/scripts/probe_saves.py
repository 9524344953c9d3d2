"""Activation caches of the saves of one training segment that are no anchors: the base is loaded once for all of them.
Without --adapters, of the model itself.

--adapters and --activations come in the same order, and --labels where there are any (see fit_labels.py). params:
model, positions, dtype, batch_size, keep (all, or anchors: these saves keep no fit activations per prompt, and those of
the validation prompts at select_position only), class_min (with --labels).
"""

from _job import Job
from _model import batch_size, load, progress, rendered, reported, saves

from safety_geometry.artefacts.activations import CLASSES, SETS
from safety_geometry.artefacts.fit_labels import read_fit_labels
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.geometry.activations import CacheSettings, cache_activations
from safety_geometry.models.positions import T_INST


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", *SETS, "labels*"], outputs=["activations*"])
    params, base = job.params, load(job)
    prompts = {name: rendered(base, read_jsonl(getattr(job, name))) for name in SETS}
    counts = {label: len(prompts[f"fit_{label}"]) for label in CLASSES}
    only = None if params["keep"] == "all" else params["select_position"]
    settings = CacheSettings((*params["positions"], T_INST), params["dtype"], only, params.get("class_min", 0))
    for part, loaded, path in saves(job, base, job.activations, labels=job.labels):
        refused = read_fit_labels(part.labels[0], counts) if part.labels else None
        size, share = batch_size(job, "activations", params["batch_size"]), loaded.chat.n_prefix
        with reported(), part.publish(path) as scratch:
            cache_activations(scratch, loaded.runner, prompts, settings, size, refused, share, progress)


if __name__ == "__main__":
    main()
