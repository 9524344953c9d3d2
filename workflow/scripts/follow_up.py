"""Answers of the followed-up cells of one checkpoint: direct requests that did not choose them, usefulness, benign
utility.

--choice names the cells, each with the digest of what it does. Targets that share controls answer together with these;
answers that the same cells gave to the same requests before are taken from a store beside --completions (private). The
cells of the others are made anew from the same settings as in the sweep. params: those of sweep.py, checkpoint {regime,
step}, answers {suites, max_new_tokens, batch_size}. Where nothing is missing no model is loaded.
"""

import json

from _job import Job, JobError
from _model import batch_size, load, progress, recalled, rendered

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.carriers import read_carriers
from safety_geometry.artefacts.prompts import read_role, read_suites
from safety_geometry.artefacts.unit_store import UnitStore
from safety_geometry.causal.plan import answering_together
from safety_geometry.causal.sweep import Sweep, answer_key
from safety_geometry.models.answers import answer_cells


def main() -> None:
    inputs = ["model", "adapter?", "activations", "carriers", "choice", "harmful", "suites*"]
    job = Job(__doc__, inputs, ["completions"])
    params, answers = job.params, job.params["answers"]
    choice, store = json.loads(job.choice.read_text("utf-8")), UnitStore(job.completions.with_suffix(".store"))
    suites = read_suites(answers["suites"], job.suites)
    questions = [(suite, row) for suite, row in suites if suite != "direct" or row["id"] in choice["scoring"]]
    groups = answering_together(choice["chosen"], params["checkpoint"])
    facts = job.facts(("model", "adapter"), ("model",))
    keys = {group: answer_key(digests, questions, answers, facts) for group, digests in groups.items()}

    def compute(lacking: list[str]):
        loaded = load(job, job.adapter)
        harmful = [prompt.ids for prompt in rendered(loaded, read_role(job.harmful, params["prompts"]["harmful"]))]
        prompts = rendered(loaded, [row for _, row in questions], answers["max_new_tokens"])
        carriers, activations = read_carriers(job.carriers, params["step"]), Activations(job.activations)
        size = batch_size(job, "readout", params["batch_size"])
        sweep = Sweep.of(params, loaded.runner, loaded.chat, carriers, activations, harmful, size)
        edits = {cell: edits for unit in sweep.units() for cell, edits in unit.interventions.items()}
        if lost := sorted({cell for group in lacking for cell in groups[group]} - set(edits)):
            raise JobError(
                f"{job.choice} names the cell {lost[0]}, which the sweep does not have; run follow_up_choice again"
            )
        bar = progress(len(questions) * sum(len(groups[group]) for group in lacking), "answers")
        width = batch_size(job, "answers", answers["batch_size"])
        for group in lacking:
            cells = {cell: edits[cell] for cell in groups[group]}
            rows = answer_cells(loaded, cells, questions, prompts, answers["max_new_tokens"], width, progress=bar)
            yield group, {"answers": rows, "layout_changed": job.layout_changed()}

    results = recalled(job, store.completed(keys, compute))
    job.write_jsonl((row for result in results.values() for row in result["answers"]), job.completions)


if __name__ == "__main__":
    main()
