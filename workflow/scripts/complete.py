"""Greedy answers of a checkpoint to its evaluation suites.

params: model, suites {name: max_new_tokens} in order, batch_size. --prompts are the suites' files in that order; a suite
of attacked requests has rows with `prompt` (what is asked) and `request`. Rows: id, suite, prompt_id, prompt (the bare
request), completion, n_tokens, hit_limit and the fields that judges need (type, bucket, must, min_words, arm).
--activations: the prompts' activations at params.positions and all block inputs, in the order of the rows; they cost
nothing, since the prompts are run anyway.
"""

import json

import torch
from _completions import answer_suites, read_suites
from _job import Job, JobError
from _model import BAD_INPUT, batch_size, load, rendered
from safetensors.torch import save_file

from safety_geometry.activations import position_indices
from safety_geometry.models import DTYPES


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "prompts*"], outputs=["completions", "activations"])
    loaded, p = load(job, job.adapter), job.params
    asked = read_suites(dict.fromkeys(p["suites"]), job.prompts)
    prompts = rendered(loaded, [row for _, row in asked], [p["suites"][suite] for suite, _ in asked])
    kept, observe = recorder(loaded, prompts, p)
    size = batch_size(job, "completions", p["batch_size"])
    job.write_jsonl(answer_suites(loaded, asked, prompts, p["suites"], size, observe), job.completions)
    if not torch.isfinite(kept).all():
        raise JobError(f"activations overflow {p['dtype']}; set activations.dtype to bfloat16 or float32")
    with job.publish(job.activations) as scratch:
        save_file({"prompts": kept}, scratch, {"positions": json.dumps(p["positions"])})


def recorder(loaded, prompts: list, p: dict):
    """A tensor [n, P, L, d] of the prompts' activations, and what fills it while the prompts are run."""
    try:
        where = position_indices(prompts, p["positions"])
    except BAD_INPUT as error:
        raise JobError(f"{error}; see activations.positions in the configuration") from error
    kept = torch.empty(
        len(prompts), len(p["positions"]), loaded.runner.n_layers, loaded.runner.d, dtype=DTYPES[p["dtype"]]
    )

    def observe(rows: list[int], layer: int, h: torch.Tensor, offset: torch.Tensor) -> None:
        if layer < loaded.runner.n_layers:
            columns = where[rows].to(h.device) + offset[:, None]
            kept[rows, :, layer] = h[torch.arange(len(rows), device=h.device)[:, None], columns].to(kept.dtype).cpu()

    return kept, observe


if __name__ == "__main__":
    main()
