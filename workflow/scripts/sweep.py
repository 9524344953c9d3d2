"""Causal sweep at one checkpoint: readouts of every cell, and answers of the cells that the configuration asks for.

Finished units are kept in a folder `store` beside --completions (private): a killed sweep goes on where it was, and a
changed λ, mode or number of controls computes only the cells concerned. params: model, step, those of Sweep.of, prompts
{harmful, benign}, openings, batch_size, generate {cells, alone, controls, suites, max_new_tokens, batch_size}."""

from _job import Job, explained
from _model import batch_size, load, progress, recalled, rendered

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.carriers import read_carriers
from safety_geometry.artefacts.prompts import read_role, read_suites
from safety_geometry.artefacts.unit_store import UnitStore
from safety_geometry.causal import sweep as causal
from safety_geometry.causal.cells import answer_units
from safety_geometry.models.answers import answer_cells
from safety_geometry.models.openings import opening_ids


def main() -> None:
    inputs = ["model", "adapter?", "activations", "carriers", "harmful", "benign", "suites*"]
    job = Job(__doc__, inputs, ["cells", "readout", "completions"])
    loaded, params, generate = load(job, job.adapter), job.params, job.params["generate"]
    harmful, benign = (read_role(getattr(job, name), params["prompts"][name]) for name in ("harmful", "benign"))
    read, limit = zip(causal.QUANTITIES, (harmful, benign, benign), strict=True), generate["max_new_tokens"]
    ids = {name: [row["id"] for row in rows] for name, rows in read}
    tokens = [[prompt.ids for prompt in rendered(loaded, *some)] for some in ((harmful,), (benign, limit))]
    carriers, cache = read_carriers(job.carriers, params["step"]), Activations(job.activations)
    size = batch_size(job, "readout", params["batch_size"])
    with explained(ValueError, of=f"sweep of {job.carriers}"):
        sweep = causal.Sweep.of(params, loaded.runner, loaded.chat, carriers, cache, tokens[0], size)
    questions, units = read_suites(generate["suites"], job.suites), list(sweep.units())
    answering = answer_units(units)
    facts = job.facts(("model", "adapter", "harmful", "benign"), ("model", "prompts", "openings", "batch_size"))
    keys = {unit.name: causal.readout_key(unit, facts, limit) for unit in units}
    facts = job.facts(("model", "adapter"), ("model",))
    keys |= {unit.name: causal.answer_key(unit.digests, questions, generate, facts) for unit in answering}

    def compute(lacking: list[str]):
        with explained(ValueError, of="sweep.openings"):
            openings = opening_ids(loaded.chat, params["openings"], [row["prompt"] for row in harmful[:3]])
        unread, silent = ([unit for unit in some if unit.name in lacking] for some in (units, answering))
        bar = progress(sweep.passes(unread, tokens[1]), "readouts")
        for unit, readout in sweep.read(unread, tokens[1], openings, bar):
            yield unit.name, readout | {"prompts": ids, "layout_changed": job.layout_changed()}
        bar = progress(len(questions) * sum(len(unit.cells) for unit in silent), "answers")
        prompts = rendered(loaded, [row for _, row in questions], limit)
        width = batch_size(job, "answers", generate["batch_size"])
        for unit in silent:
            answers = answer_cells(loaded, unit.interventions, questions, prompts, limit, width, progress=bar)
            yield unit.name, {"answers": answers, "layout_changed": job.layout_changed()}

    results = recalled(job, UnitStore(job.completions.parent / "store").completed(keys, compute))
    job.write_table(causal.cell_rows(units, carriers), job.cells)
    job.write_table(causal.readout_rows(results, units), job.readout)
    job.write_jsonl((row for unit in answering for row in results[unit.name]["answers"]), job.completions)


if __name__ == "__main__":
    main()
