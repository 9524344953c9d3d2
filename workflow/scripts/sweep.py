"""Causal sweep at one checkpoint: readouts of every cell, and answers of the cells that the configuration asks for.

Finished units of cells are kept in a folder `store` beside --completions (private), so that a killed sweep goes on where
it was and a changed λ, mode or number of controls computes only the cells concerned. params: see _sweep.Sweep, and prompts
{harmful, benign}, openings, batch_size, generate {cells, controls, suites, max_new_tokens, batch_size}.
--cells and --readout carry numbers and ids only, --completions (private) the answers.
"""

import sys

import pandas as pd
from _completions import answer_cells, read_suites
from _job import Job, JobError
from _model import batch_size, load, progress, recall
from _store import UnitStore
from _sweep import Sweep
from _unit_key import unit_key

from safety_geometry.causal.cells import Unit, clean_cell
from safety_geometry.causal.names import DESCRIPTION
from safety_geometry.causal.readout import opening_ids, read_kl, read_log_odds

COLUMNS = ("cell", *DESCRIPTION, "generated", "carrier_layer_h", "carrier_layer_r")


def main() -> None:
    job = Job(
        __doc__, inputs=["model", "adapter?", "activations", "carriers", "harmful", "benign", "suites*"],
        outputs=["cells", "readout", "completions"],
    )  # fmt: skip
    sweep = Sweep(job, load(job, job.adapter))
    store = UnitStore(job.completions.parent / "store")
    units = list(sweep.units())
    spoken = any(cell.generated for unit in units for cell in unit.cells)
    units.append(Unit("clean", (clean_cell(generated=spoken),)))
    keys = {unit.name: unit_key(job, unit) for unit in units}
    results = {name: store.get(key) for name, key in keys.items()}
    missing = [unit for unit in units if results[unit.name] is None]
    print(f"{len(units)} units of cells, {len(missing)} of them to compute", file=sys.stderr, flush=True)
    compute(sweep, missing, keys, store)
    results |= {unit.name: store.get(keys[unit.name]) for unit in missing}
    for found in results.values():
        recall(job, (found or {}).get("layout_changed", {}))
    if lost := [name for name, found in results.items() if found is None]:
        raise JobError(f"{store.folder}: results of {lost[0]} cannot be read back; is the disk damaged?")
    write(job, sweep, units, results)
    store.keep(set(keys.values()))


def compute(sweep: Sweep, units: list[Unit], keys: dict[str, str], store: UnitStore) -> None:
    job, p = sweep.job, sweep.p
    if not units:
        return
    benign_ids, benign = sweep.prompts(job.benign, p["prompts"]["benign"])
    clean_benign = sweep.clean(benign)
    try:
        openings = opening_ids(sweep.loaded.chat, p["openings"], sweep.requests)
    except ValueError as error:
        raise JobError(f"sweep.openings: {error}") from error
    asked = read_suites(p["generate"]["suites"], job.suites)
    limit, rows_of_readout = p["generate"]["max_new_tokens"], batch_size(job, "readout", p["batch_size"])
    rows_of_answers = batch_size(job, "answers", p["generate"]["batch_size"])
    harmful_ids = sweep.harmful[0]
    rows = sum(
        len(harmful_ids) + len(benign_ids) * cell.kl + len(asked) * cell.generated
        for unit in units
        for cell in unit.cells
    )
    bar = progress(rows, "sweep")
    for unit in units:
        every, with_kl, spoken = (
            {cell.id: cell.interventions for cell in unit.cells if wanted(cell)}
            for wanted in (lambda cell: True, lambda cell: cell.kl, lambda cell: cell.generated)
        )
        odds = read_log_odds(sweep.runner, sweep.clean_harmful, list(every.values()), openings, rows_of_readout, bar)
        kl = read_kl(sweep.runner, clean_benign, list(with_kl.values()), rows_of_readout, bar)
        answers = answer_cells(sweep.loaded, spoken, asked, limit, rows_of_answers, bar) if spoken else []
        found = {
            "log_odds": dict(zip(every, odds.tolist(), strict=True)),
            "kl": dict(zip(with_kl, kl.tolist(), strict=True)),
            "prompts": {"log_odds": harmful_ids, "kl": benign_ids},
            "answers": answers,
        } | ({"layout_changed": changed} if (changed := job.layout_changed()) else {})
        store.put(keys[unit.name], found)


def write(job: Job, sweep: Sweep, units: list[Unit], results: dict[str, dict]) -> None:
    own = {f"carrier_layer_{kind.lower()}": site[1] for kind, site in sweep.sites.items()}
    cells = [
        {"cell": cell.id, "generated": cell.generated} | row | own
        for unit in units
        for cell in unit.cells
        for row in cell.rows
    ]
    frame = pd.DataFrame(cells).reindex(columns=list(COLUMNS))
    whole = ("rank", "control_seed", "layer_h", "layer_r", "source_layer")
    frame = frame.astype(dict.fromkeys(whole, "Int64"))
    readings = [
        {"cell": cell, "quantity": quantity, "prompt_id": prompt, "value": value}
        for unit in units
        for quantity in ("log_odds", "kl")
        for cell, values in results[unit.name][quantity].items()
        for prompt, value in zip(results[unit.name]["prompts"][quantity], values, strict=True)
    ]
    for table, path in ((frame, job.cells), (pd.DataFrame(readings), job.readout)):
        with job.publish(path) as scratch:
            table.to_csv(scratch, index=False, float_format="%.9g", lineterminator="\n")
    job.write_jsonl((row for unit in units for row in results[unit.name]["answers"]), job.completions)


if __name__ == "__main__":
    main()
