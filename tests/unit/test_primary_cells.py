"""Which primary cells a configuration may name: those that so many directions can decide."""

import copy
from pathlib import Path

import pytest
from pipeline.combinations.sweeps import check_decidable
from pipeline.config_check import ConfigError
from pipeline.config_file import read_config
from pipeline.study import Study

ROOT = Path(__file__).parents[2]
MODES = ("h_only", "r_only")


@pytest.mark.parametrize(("cells", "least"), [(1, 20), (4, 80), (6, 120)])
def test_so_many_directions_as_holm_needs(cells, least):
    """The least p of a regime's family, cells / (1 + directions), has to lie below .05: worked out for each."""
    regimes = ["r2d2"] * cells + ["sft"]
    assert cells / (1 + least) < 0.05 <= cells / least
    check_decidable(regimes, least)
    words = rf"sweep.permutations = {least - 1}.*{cells} primary cells of r2d2.*take at least {least} directions"
    with pytest.raises(ConfigError, match=words):
        check_decidable(regimes, least - 1)
    check_decidable([], 1)


def test_a_row_with_several_modes_and_strengths_is_a_cell_for_each():
    config = copy.deepcopy(read_config(ROOT / "config.yaml"))
    row = {"regime": "r2d2", "anchor": 30, "family": "steer"}
    config["sweep"]["primary"] = [
        row | {"mode": "r_only", "lambda": 1.0},
        row | {"mode": list(MODES), "lambda": [-1.0, 1]},
    ]
    found = [(number, place, target.id) for number, place, target in Study(config).primary()]
    several = [(1, ("r2d2", "30"), f"steer:{mode}:{x}:layer:1") for mode in MODES for x in (-1, 1)]
    assert found == [(0, ("r2d2", "30"), "steer:r_only:1:layer:1"), *several]


@pytest.mark.parametrize("name", ["config.yaml", "configs/full.yaml"])
def test_the_primary_cells_are_r_and_h_removed_and_added_at_one_checkpoint_a_regime(name):
    study = Study(read_config(ROOT / name))
    by_regime: dict[str, list] = {}
    for _, place, target in study.primary():
        by_regime.setdefault(place[0], []).append((place[1], target.id))
    wanted = {
        f"{family}:{mode}:{x}:layer:1" for mode in MODES for family, x in (("ablate", 1), ("steer", 1), ("steer", -1))
    }
    for cells in by_regime.values():
        assert len({anchor for anchor, _ in cells}) == 1
        assert {target for _, target in cells} == wanted and len(cells) == 6
    assert study.config["sweep"]["permutations"] >= 399
