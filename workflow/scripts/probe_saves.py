"""Activation caches of the saves of one training segment that are no anchors: the base is loaded once for all of them.

--adapters and --activations come in the same order. params: model, positions, dtype, batch_size, keep (all, or anchors:
these saves keep no fit activations per prompt, and those of the validation prompts at select_position only).
"""

from dataclasses import replace

from _job import Job, JobError
from _model import Loaded, load
from _probe import SETS, activations, positions, publish

from safety_geometry.adapters import with_adapter
from safety_geometry.runner import Runner


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", *SETS], outputs=["activations*"])
    if not job.adapters or len(job.adapters) != len(job.activations):
        raise JobError(f"{len(job.activations)} activation files for {len(job.adapters)} adapters; name one for each")
    base = load(job)
    prompts = {name: base.prompts(getattr(job, name)) for name in SETS}
    plain = base.model.to("cpu")
    for adapter, path in list(zip(job.adapters, job.activations, strict=True)):
        job.adapters = [adapter]  # the sidecar names what this file was made from
        tensors = activations(adapted(base, plain, adapter, job.params["model"]["device"]), prompts, job.params)
        publish(job, path, tensors if job.params["keep"] == "all" else means_only(tensors, job.params))


def adapted(base: Loaded, plain, adapter, device: str) -> Loaded:
    model = with_adapter(plain, adapter, device)
    return replace(base, model=model, runner=Runner(model))


def means_only(tensors: dict, params: dict) -> dict:
    """A twelfth of the size: what the carriers and their validation scores are made of, and nothing to resample."""
    position = params["select_position"]
    at = positions(params).index(position)
    kept = {name: t for name, t in tensors.items() if name.startswith("mean.")}
    selected = {f"select.{c}.{position}": tensors[f"select.{c}"][:, at].contiguous() for c in ("harmful", "benign")}
    return kept | selected


if __name__ == "__main__":
    main()
