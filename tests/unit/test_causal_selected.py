"""Controls that were chosen as R was, and a checkpoint without R: which cells exist and what they do."""

from dataclasses import replace

import numpy as np
import pytest
from test_causal_controls import D, checkpoint, scan_unit, shared_units, target_unit

from safety_geometry.causal.modes import orthonormal, without
from safety_geometry.causal.names import MODES
from safety_geometry.causal.plan import Target

WINNERS = tuple(
    ((position, layer), orthonormal(np.random.default_rng(layer).standard_normal((1, D)))[0])
    for position, layer in ((-2, 2), (-1, 6))
)


@pytest.mark.parametrize("family", ["ablate", "steer"])
@pytest.mark.parametrize("mode", MODES)
def test_selected_controls_act_where_they_were_chosen(mode, family):
    at, target = replace(checkpoint(), selected=WINNERS), Target(family, mode, 1.0)
    unit = target_unit(target, at, {"selected": 5}, 1)
    controls = [cell for cell in unit.cells if cell.rows[0]["control"] == "selected"]
    assert len(controls) == (2 if mode in ("r_only", "r_perp_h") else 0)  # as many as there are; of R only
    for cell, ((position, layer), direction) in zip(controls, WINNERS, strict=False):
        (row,), (edit,) = cell.rows, cell.interventions
        assert (row["layer_r"], row["source_layer_r"], row["source_position_r"]) == (layer, layer, str(position))
        wanted = direction[None] if mode == "r_only" else without(direction[None], at.h)
        assert edit.layer == layer and abs(float(edit.basis[0].double().numpy() @ wanted[0])) == pytest.approx(
            1, abs=1e-6
        )


def test_without_r_there_is_h_alone():
    whole = checkpoint()
    at = replace(whole, r=None, sources={"H": whole.sources["H"]})
    counts = {"random": 2, "wrong_layer": 1, "selected": 2}
    for mode in MODES:
        target = Target("ablate", mode, 1.0)
        assert at.has(target) == (mode == "h_only")
        unit = target_unit(target, at, counts, 1)
        assert (unit is not None) == (mode == "h_only")
        assert scan_unit(mode, "ablate", 1.0, [2, 5], at) is None
    target = Target("ablate", "h_only", 1.0)
    same, alone = (target_unit(target, each, counts, 1) for each in (whole, at))
    assert same.digests == alone.digests
    assert [u.digests for u in shared_units([target], at, counts, 1)] == [
        u.digests for u in shared_units([target], whole, counts, 1)
    ]
