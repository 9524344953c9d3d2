"""Activation caches of the saves of one training segment that are no anchors: the base is loaded once for all of them.
Without --adapters, of the model itself.

--adapters and --activations come in the same order, and --labels where there are any (see fit_labels.py). params: model,
positions, dtype, batch_size, keep (all, or anchors: these saves keep no fit activations per prompt, and those of the
validation prompts at select_position only), class_min (with --labels).
"""

from _adapters import each_save
from _job import Job, JobError
from _model import load
from _probe import SETS, write_activations


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", *SETS, "labels*"], outputs=["activations*"])
    labels = job.labels or [None] * len(job.activations)
    if len(labels) != len(job.activations):
        raise JobError(f"{len(labels)} files of labels for {len(job.activations)} activation files; name one for each")
    base = load(job)
    prompts = {name: base.prompts(getattr(job, name)) for name in SETS}
    for (loaded, path), mine in zip(each_save(job, base, job.activations), labels, strict=True):
        job.labels = [mine] if mine else []  # as with the adapters
        write_activations(job, path, loaded, prompts, mine, whole=job.params["keep"] == "all")


if __name__ == "__main__":
    main()
