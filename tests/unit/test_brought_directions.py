"""Directions from files as targets of the sweep: R's own, brought in a file, has R's own effects beside R's own controls."""

import json
import logging
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import REQUESTS

from safety_geometry.artefacts.carriers import Carrier, CarrierPair
from safety_geometry.artefacts.direction_files import Direction
from safety_geometry.artefacts.tables.directions import DIRECTIONS, EFFECT
from safety_geometry.artefacts.tables.files import check_table, frame_of
from safety_geometry.causal.brought import brought_rows
from safety_geometry.causal.effects import control_normalised
from safety_geometry.causal.sweep import Sweep, cell_rows, readout_rows
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner

D, LAYERS, N = 32, 4, 6
POSITIONS = [-2, -1, "t_inst"]
TARGETS = ["ablate:r_only:1:layer:1", "ablate:r_only:0.5:all_layers:1", "steer:r_only:-1:layer:1"]
SETTINGS = {
    "seed": 1, "subspace_positions": [-2, -1], "steer_scale": "unit", "max_matched_lambda": 3.0, "targets": TARGETS,
    "primary": TARGETS[:1], "tested": ["own"], "permutations": 6, "layer_scan": None,
    "controls": {"random": 1, "covariance": 2, "shuffled": 1, "norm_matched": 1},
    "generate": {"cells": [], "controls": {}, "max_new_tokens": 1},
}  # fmt: skip
OPENINGS = [7, 90, 300]


class Activations:
    """Fit activations of six harmful and six benign prompts at every site."""

    n_layers, positions = LAYERS, POSITIONS

    def fit(self, position, layer):
        rng = np.random.default_rng([POSITIONS.index(position), layer])
        rows = rng.standard_normal((2 * N, D))
        rows[:N] += np.linspace(-1, 1, D)
        return rows, N


def carrier(kind: str, layer: int, position) -> Carrier:
    row = np.random.default_rng(layer).standard_normal(D)
    unit = (row / np.linalg.norm(row)).astype(np.float32)
    return Carrier(kind, layer, position, unit, 2.0, 1.0, True, unit[:, None])


PAIR = CarrierPair("30", "own", carrier("H", 1, "t_inst"), carrier("R", 2, -1))


@pytest.fixture
def asked(llama, chat):
    model = LanguageModel(Runner(llama), chat)
    prompts = {name: [prompt.ids for prompt in model.render(texts)] for name, texts in
               (("harmful", REQUESTS[:3]), ("benign", REQUESTS[3:]))}  # fmt: skip
    ids = {"harmful": ["p0", "p1", "p2"], "benign": ["b0", "b1"]}

    def rows(directions: dict, pair: CarrierPair = PAIR) -> pd.DataFrame:
        made = brought_rows(SETTINGS, model, pair, Activations(), prompts, ids, OPENINGS, directions, BatchSize(8, "x"),
                            4.0, 0, 50)  # fmt: skip
        return frame_of([{"seed": 1, "regime": "sft", "step": 30, "anchor": "30"} | row for row in made], DIRECTIONS)

    def of_r() -> pd.DataFrame:
        sweep = Sweep.of(SETTINGS, model.runner, chat, PAIR, Activations(), prompts["harmful"], BatchSize(8, "x"))
        units, read = list(sweep.units()), {}
        for unit, readout in sweep.read(units, prompts["benign"], OPENINGS):
            names = {"log_odds": ids["harmful"], "kl": ids["benign"], "kl_answer": ids["benign"]}
            read[unit.name] = readout | {"prompts": names}
        cells, readouts = pd.DataFrame(cell_rows(units, PAIR)), pd.DataFrame(readout_rows(read, units))
        return control_normalised(cells, readouts, None, 0, 50)

    return rows, of_r


def test_r_in_a_file_is_r(asked):
    rows, of_r = asked
    mine = rows({"own": (Direction(3 * PAIR.r.direction, 2, -1), -1)})
    check_table(mine, DIRECTIONS)
    want = of_r()
    assert set(want["control"]) == {"pooled", "random", "covariance", "shuffled", "norm_matched"}
    pd.testing.assert_frame_equal(mine[list(EFFECT)], want[list(EFFECT)], check_dtype=False, rtol=1e-4, atol=1e-5)
    assert mine["c_cos_r"].to_numpy() == pytest.approx(1, abs=1e-6) and set(mine["c_layer_r"]) == {1.0}
    assert mine["norm"].to_numpy() == pytest.approx(3, abs=1e-5)
    tested = mine["p_permutation"].notna()
    assert (
        tested.sum() == 1 and mine[tested]["metric"].tolist() == ["log_odds"] and mine[tested]["lambda"].tolist() == [1]
    )


def test_directions_stand_beside_each_other_and_beside_no_r(asked):
    rows, _ = asked
    other = Direction(np.random.default_rng(9).standard_normal(D).astype(np.float32), 1)
    without_r = CarrierPair("30", "own", PAIR.h, None, "none was found", "none")
    both = rows({"own": (Direction(PAIR.r.direction, 2), -1), "other": (other, "t_inst")}, without_r)
    check_table(both, DIRECTIONS)
    assert both["c_cos_r"].isna().all() and both["c_layer_r"].isna().all()
    assert both.groupby("direction")["layer"].unique().map(list).to_dict() == {"other": [1], "own": [2]}
    assert not both.loc[both["direction"] == "other", "primary"].any()  # not in `tested`
    h = np.abs(other.unit @ PAIR.h.direction)
    assert both.loc[both["direction"] == "other", "c_cos_h"].to_numpy() == pytest.approx(h, abs=1e-6)
    values, n = Activations().fit("t_inst", 1)
    contrast = values[:n].mean(0) - values[n:].mean(0)
    want = abs(other.unit @ contrast) / np.linalg.norm(contrast)
    assert both.loc[both["direction"] == "other", "c_cos_site"].to_numpy() == pytest.approx(want, abs=1e-6)


def test_what_does_not_fit(asked, caplog):
    rows, _ = asked
    caplog.set_level(logging.WARNING, "safety_geometry")
    assert rows({"wide": (Direction(np.ones(7, np.float32), 1), -1)}).empty
    assert "direction wide has 7 numbers, and this model's stream is 32 wide: left out" in caplog.text
    with pytest.raises(ValueError, match="direction deep is of layer 4; this model has 4 blocks"):
        rows({"deep": (Direction(np.ones(D, np.float32), 4), -1)})
    with pytest.raises(ValueError, match="direction far is of position -9; activations are recorded at -2, -1, t_inst"):
        rows({"far": (Direction(np.ones(D, np.float32), 1), -9)})


def test_tables_of_checkpoints_are_stacked(asked, tmp_path, monkeypatch):
    import directions_table as script

    from safety_geometry.artefacts.tables.files import read_table, write_table

    rows, _ = asked
    some = rows({"own": (Direction(PAIR.r.direction, 2), -1)})
    for name, table in (("none", some.iloc[:0]), ("some", some)):
        (tmp_path / name).mkdir()
        write_table(table, tmp_path / name / "directions.csv", DIRECTIONS)
    parts = [str(tmp_path / name / "directions.csv") for name in ("none", "some")]
    options = ["--parts", *parts, "--directions", str(tmp_path / "directions.csv"), "--params", json.dumps({})]
    monkeypatch.setattr(sys, "argv", ["directions_table.py", *options])
    script.main()
    assert len(read_table(tmp_path / "directions.csv")) == len(some)
