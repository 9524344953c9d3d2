"""Causal sweep at one checkpoint: readouts of every cell, and answers of the cells that the configuration asks for.

Finished units of cells are kept in a folder `store` beside --completions (private), so that a killed sweep goes on where
it was and a changed λ, mode or number of controls computes only the cells concerned. Readouts and answers are units of their
own: more directions that are only read leave all answers alone. params: see _sweep.Sweep, and prompts {harmful, benign},
openings, batch_size, generate {cells, controls, suites, max_new_tokens, batch_size}.
--cells and --readout carry numbers and ids only, --completions (private) the answers.
"""

import pandas as pd
from _completions import read_suites
from _job import Job, JobError
from _model import batch_size, load, progress
from _store import UnitStore
from _sweep import Sweep
from _unit_key import answer_key, fingerprint, readout_key
from _units import answer_missing, completed

from safety_geometry.causal.cells import Unit, answer_units, clean_unit
from safety_geometry.causal.names import DESCRIPTION, WHOLE
from safety_geometry.causal.readout import opening_ids, read_kl, read_log_odds

COLUMNS = ("cell", "digest", *DESCRIPTION, "generated", "carrier_layer_h", "carrier_layer_r")


def main() -> None:
    job = Job(
        __doc__, inputs=["model", "adapter?", "activations", "carriers", "harmful", "benign", "suites*"],
        outputs=["cells", "readout", "completions"],
    )  # fmt: skip
    sweep, generate = Sweep(job, load(job, job.adapter)), job.params["generate"]
    store, asked = UnitStore(job.completions.parent / "store"), read_suites(generate["suites"], job.suites)
    units = list(sweep.units())
    units.append(clean_unit(generated=any(cell.generated for unit in units for cell in unit.cells)))
    spoken = answer_units(units)
    keys = {unit.name: readout_key(job, unit) for unit in units}
    keys |= {u.name: answer_key(job, {c.id: fingerprint(c) for c in u.cells}, asked, generate) for u in spoken}

    def compute(lacking: list[str]) -> None:
        read(sweep, [unit for unit in units if unit.name in lacking], keys, store)
        missing = {keys[unit.name]: cells_of(unit) for unit in spoken if unit.name in lacking}
        answer_missing(job, sweep.loaded, missing, asked, generate, store)

    results = completed(job, store, keys, compute)
    write(job, sweep, units, results)
    job.write_jsonl((row for unit in spoken for row in results[unit.name]["answers"]), job.completions)


def read(sweep: Sweep, units: list[Unit], keys: dict[str, str], store: UnitStore) -> None:
    """Readouts of units that the store lacks."""
    job, p = sweep.job, sweep.p
    if not units:
        return
    benign_ids, benign = sweep.prompts(job.benign, p["prompts"]["benign"])
    clean_benign = sweep.clean(benign)
    try:
        openings = opening_ids(sweep.loaded.chat, p["openings"], sweep.requests)
    except ValueError as error:
        raise JobError(f"sweep.openings: {error}") from error
    harmful_ids, rows = sweep.harmful[0], batch_size(job, "readout", p["batch_size"])
    bar = progress(sum(len(harmful_ids) + len(benign_ids) * c.kl for unit in units for c in unit.cells), "readouts")
    for unit in units:
        every, with_kl = cells_of(unit), {cell.id: cell.interventions for cell in unit.cells if cell.kl}
        odds = read_log_odds(sweep.runner, sweep.clean_harmful, list(every.values()), openings, rows, bar)
        kl = read_kl(sweep.runner, clean_benign, list(with_kl.values()), rows, bar)
        found = {
            "log_odds": dict(zip(every, odds.tolist(), strict=True)),
            "kl": dict(zip(with_kl, kl.tolist(), strict=True)),
            "prompts": {"log_odds": harmful_ids, "kl": benign_ids},
        } | ({"layout_changed": changed} if (changed := job.layout_changed()) else {})
        store.put(keys[unit.name], found)


def cells_of(unit: Unit) -> dict[str, tuple]:
    """Interventions by cell."""
    return {cell.id: cell.interventions for cell in unit.cells}


def write(job: Job, sweep: Sweep, units: list[Unit], results: dict[str, dict]) -> None:
    own = {f"carrier_layer_{kind.lower()}": site[1] for kind, site in sweep.sites.items()}
    cells = [
        {"cell": cell.id, "digest": fingerprint(cell), "generated": cell.generated} | row | own
        for unit in units
        for cell in unit.cells
        for row in cell.rows
    ]
    frame = pd.DataFrame(cells).reindex(columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys(WHOLE, "Int64"))
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


if __name__ == "__main__":
    main()
