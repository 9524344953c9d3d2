"""Activation caches of the saves of one training segment that are no anchors: the base is loaded once for all of them.
Without --adapters, of the model itself.

--adapters and --activations come in the same order, and --labels where there are any (see fit_labels.py). params: model,
positions, dtype, batch_size, keep (all, or anchors: these saves keep no fit activations per prompt, and those of the
validation prompts at select_position only), class_min (with --labels).
"""

from _adapters import each_save
from _job import Job, JobError
from _model import load
from _probe import SETS, activations, positions, publish


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", *SETS, "labels*"], outputs=["activations*"])
    labels = job.labels or [None] * len(job.activations)
    if len(labels) != len(job.activations):
        raise JobError(f"{len(labels)} files of labels for {len(job.activations)} activation files; name one for each")
    base = load(job)
    prompts = {name: base.prompts(getattr(job, name)) for name in SETS}
    for (loaded, path), mine in zip(each_save(job, base, job.activations), labels, strict=True):
        job.labels = [mine] if mine else []  # as with the adapters
        tensors = activations(loaded, prompts, job.params, mine)
        publish(job, path, tensors if job.params["keep"] == "all" else means_only(tensors, job.params))


def means_only(tensors: dict, params: dict) -> dict:
    """A twelfth of the size: what the carriers and their validation scores are made of, and nothing to resample."""
    position = params["select_position"]
    at = positions(params).index(position)
    kept = {name: t for name, t in tensors.items() if name.startswith(("mean.", "refused."))}
    selected = {f"select.{c}.{position}": tensors[f"select.{c}"][:, at].contiguous() for c in ("harmful", "benign")}
    return kept | selected


if __name__ == "__main__":
    main()
