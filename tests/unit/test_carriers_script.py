"""workflow/scripts/carriers.py on small made-up caches, checked against numbers rebuilt from the same arrays."""

import json
import sys
from dataclasses import replace

import carriers as script
import numpy as np
import pandas as pd
import pytest
from _job import JobError
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.candidate_scores import (
    CandidateScores,
    NullSets,
    Openings,
    RefusalScores,
    read_scores,
    write_scores,
)
from safety_geometry.artefacts.carriers import read_carriers
from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tensor_file import Tensors
from safety_geometry.geometry.carriers import unit
from safety_geometry.geometry.coupling import layer_coupling, position_subspace, subspace_coupling

POSITIONS = [-3, -2, -1, "t_inst"]
L, D, N, M = 5, 16, 12, 6
STEPS, SCORED = [0, 4, 8, 12], [4, 12]
PARAMS = {
    "seed": 3, "regime": "r2d2", "steps": STEPS, "anchors": {"reference": 4, "12": 12}, "reference": 4,
    "scored_steps": SCORED, "settings": {
        "h_position": "t_inst", "h_score": "dprime", "selector": "cosmic", "min_gain": {"effect": 0.0, "cosmic": 0.0},
        "require_gain": False, "kl_max": 0.1, "beta_kl": 1.0, "max_layer_fraction": 0.8,
        "positions": POSITIONS[:3], "subspace_k": 3, "tau": 4.0, "fixed_layers": [1, 3], "bootstrap": 40, "shuffles": 20,
        "splits": 6, "seed": 0,
    },
}  # fmt: skip
OUTPUTS = {"carriers": "carriers.safetensors", "coupling": "coupling.csv", "geometry": "geometry.csv",
           "controls": "coupling_controls.csv", "profile": "profile.csv", "selection": "selection.csv",
           "separability": "separability.csv"}  # fmt: skip

RULERS = ["ruler_length_auroc", "ruler_words_auroc"]
LENGTHS, WORDS = [[3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6]], [[1.0] * 6, [0.0] * 6]  # of harmful and of benign prompts
RULED = [
    1 - (1 + 2 + 3 + 4 * 0.5) / 36,
    1.0,
]  # their AUROCs: of 36 pairs of lengths six are the wrong way round and four are ties


def activations(step, dtype=np.float32):
    rng = np.random.default_rng([11, step])
    shift = rng.normal(size=(len(POSITIONS), L + 1, D))
    shift[:3, 0] = 0  # the tokens of the template are the same for every prompt

    def prompts(count, harmful):
        x = rng.normal(size=(count, len(POSITIONS), L + 1, D)) + 0.5 + (shift if harmful else 0)
        x[:, :3, 0] = 0.5
        return x.astype(np.float32).astype(dtype)

    tensors = {}
    for label in ("harmful", "benign"):
        tensors[f"fit.{label}"] = prompts(N, label == "harmful")
        tensors[f"select.{label}"] = prompts(M, label == "harmful")
        tensors[f"mean.{label}"] = tensors[f"fit.{label}"].mean(0, dtype=np.float64).astype(np.float32)
    return tensors


OPENINGS = Openings(2 * M, M, 10, True, 1, 0.9, 0.8)


def scores(step, kl=0.02):
    """Of a screen of all candidates and of finalists, which here are the same."""
    part = candidate_scores(step, kl)
    every = CandidateScores(**part, n_layers=L)
    early = ("ablate_harmful", "add_benign", "kl", "removed", "added")
    screen = replace(every, **{n: getattr(every, n)[:, :2] for n in early}, answered=every.answered[:2],
                     **{n: getattr(every, n)[:2] for n in ("clean_harmful", "clean_benign", "log_odds_harmful", "log_odds_benign")})  # fmt: skip
    null = NullSets({"effect": np.full(3, -1.0), "cosmic": np.full(3, -1.0)}, np.array([1, 3, 1]), np.array([-1, -2, -3]),
                    np.eye(D)[:3], 2)  # fmt: skip
    return RefusalScores(screen, every, 2, np.full(len(part["layers"]), 0.5), OPENINGS, null)


def candidate_scores(step, kl=0.02):
    rng = np.random.default_rng([12, step])
    sites = [(layer, position) for layer in (0, 1, 3) for position in POSITIONS[:3]]
    count = len(sites)
    return {
        "layers": np.array([s[0] for s in sites]), "positions": np.array([s[1] for s in sites]),
        "norm": np.array([0.0 if s[0] == 0 else 1.0 for s in sites], np.float32),
        "ablate_harmful": rng.normal(size=(count, M, D)).astype(np.float32), "add_benign": rng.normal(size=(count, M, D)).astype(np.float32),
        "kl": (kl * rng.random((count, M))).astype(np.float32),
        "clean_harmful": rng.normal(size=(M, D)).astype(np.float32), "clean_benign": rng.normal(size=(M, D)).astype(np.float32),
        "removed": rng.normal(-2, 1, size=(count, M)), "added": rng.normal(2, 1, size=(count, M)),
        "log_odds_harmful": rng.normal(1, 1, size=M), "log_odds_benign": rng.normal(-1, 1, size=M),
    }  # fmt: skip


def run(folder, monkeypatch, params=PARAMS, kl=0.02, order=STEPS, caches=activations, extra=()):
    folder.mkdir(exist_ok=True)
    command = ["carriers.py", "--activations"]
    for step in order:
        path = folder / f"activations{step}.safetensors"
        save_file(caches(step), path, {"positions": json.dumps(POSITIONS)})
        command.append(str(path))
    command.append("--scores")
    for step in params["scored_steps"]:
        path = folder / f"scores{step}.safetensors"
        empty = "refused.harmful" in caches(step) and "mean.refused" not in caches(step)
        write_scores(path, None if empty else scores(step, kl), L)
        command.append(str(path))
    sides = zip(("harmful", "benign"), LENGTHS, WORDS, strict=True)
    lines = [f"{label},{a},{b}" for label, *side in sides for a, b in zip(*side, strict=True)]
    (folder / "rulers.csv").write_text("\n".join(["label,length,words", *lines]) + "\n")
    command += ["--rulers", str(folder / "rulers.csv")]
    for name, file in OUTPUTS.items():
        command += [f"--{name}", str(folder / file)]
    monkeypatch.setattr(sys, "argv", [*command, *extra, "--params", json.dumps(params)])
    script.main()
    return {name: pd.read_csv(folder / file) for name, file in OUTPUTS.items() if file.endswith("csv")}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("carriers")
    with pytest.MonkeyPatch.context() as patch:
        return folder, run(folder, patch)


def test_sites_are_own_or_frozen_from_the_anchor_before(result):
    coupling = result[1]["coupling"].set_index("step")
    assert coupling.selection.to_dict() == {0: "frozen", 4: "own", 8: "frozen", 12: "own"}
    sites = coupling[["layer_h", "pos_h", "layer_r", "pos_r"]]
    assert sites.loc[8].equals(sites.loc[4]) and sites.loc[0].equals(sites.loc[4])
    assert coupling.anchor.fillna("").to_dict() == {0: "", 4: "reference", 8: "", 12: "12"}
    assert coupling[["s_total", "kl", "site_share", "admissible"]].notna().all(1).to_dict() == {
        0: False,
        4: True,
        8: False,
        12: True,
    }
    assert (coupling.pos_h == "t_inst").all() and (coupling.layer_r > 0).all()


def test_rulers_stand_beside_every_separability(result):
    for name in ("coupling", "profile"):
        assert result[1][name][RULERS].to_numpy() == pytest.approx(np.tile(RULED, (len(result[1][name]), 1)), abs=1e-6)


def test_carriers_are_compared_with_the_rulers_at_the_anchors(result):
    folder, tables = result
    table, coupling = tables["separability"], tables["coupling"].set_index("step")
    assert set(table["step"]) == set(SCORED) and set(table["carrier"]) == {"H", "R"}
    assert table.set_index("ruler").loc["length", "ruler_auroc"].to_numpy() == pytest.approx(RULED[0], abs=1e-6)
    for row in table.to_dict("records"):
        cache, name = Activations(folder / f"activations{row['step']}.safetensors"), row["carrier"].lower()
        layer, position = coupling.loc[row["step"], [f"layer_{name}", f"pos_{name}"]]
        assert (row["layer"], row["position"]) == (layer, str(position if name == "h" else int(position)))
        where = "t_inst" if name == "h" else int(position)
        place = cache.index(where), int(layer)
        u = cache.mean("harmful")[place].astype(float) - cache.mean("benign")[place]
        high, low = (cache.select(label, where)[:, int(layer)].astype(float) @ u for label in ("harmful", "benign"))
        wanted = np.mean([x > y for x in high for y in low])
        assert row["auroc"] == pytest.approx(wanted, abs=1e-6)
        assert row["difference"] == pytest.approx(wanted - row["ruler_auroc"], abs=2e-6)
        assert row["difference_lo"] <= row["difference"] <= row["difference_hi"] and row["n_harmful"] == M


def test_the_fall_of_a_gain_is_from_the_reference_anchor(result):
    chosen = result[1]["selection"].set_index(["selector", "step"])
    for selector in ("effect", "cosmic"):
        later, first = chosen.loc[(selector, 12)], chosen.loc[(selector, 4)]
        assert later["fall"] == pytest.approx(first["gain"] - later["gain"], abs=2e-5) and np.isnan(first["fall"])
        assert later["fall_n"] == M - 2


def test_coupling_is_that_of_the_means(result):
    folder, tables = result
    for row in tables["coupling"].itertuples():
        data = load_file(folder / f"activations{row.step}.safetensors")
        delta = data["mean.harmful"].astype(float) - data["mean.benign"].astype(float)
        h, r = unit(delta[3, row.layer_h]), unit(delta[POSITIONS.index(row.pos_r), row.layer_r])
        spaces = [position_subspace(delta[:3, layer], 3, 1.0) for layer in (row.layer_h, row.layer_r)]
        c_sub = subspace_coupling(*spaces)
        assert row.c_cos == pytest.approx(abs(h @ r), rel=1e-4)
        assert row.c_sub == pytest.approx(c_sub, rel=1e-4)
        assert row.c_layer == pytest.approx(layer_coupling(row.layer_h, row.layer_r), rel=1e-4)
        assert row.hrci == pytest.approx(0.4 * row.c_cos + 0.4 * row.c_sub + 0.2 * row.c_layer, rel=1e-4)
        assert row.hrci_repr_lo <= row.hrci_repr_hi


def test_frozen_coupling_is_read_at_the_reference_anchor_everywhere(result):
    folder, tables = result
    rows = tables["coupling"].set_index("step")
    at = rows.loc[4]
    assert (
        rows.loc[12, ["layer_h", "layer_r", "pos_r"]] != at[["layer_h", "layer_r", "pos_r"]]
    ).any()  # else nothing is shown
    for step, row in rows.iterrows():
        data = load_file(folder / f"activations{step}.safetensors")
        delta = data["mean.harmful"].astype(float) - data["mean.benign"].astype(float)
        h, r = unit(delta[3, at.layer_h]), unit(delta[POSITIONS.index(at.pos_r), at.layer_r])
        c_sub = subspace_coupling(*(position_subspace(delta[:3, layer], 3, 1.0) for layer in (at.layer_h, at.layer_r)))
        assert row.c_cos_frozen == pytest.approx(abs(h @ r), rel=1e-4)
        assert row.c_sub_frozen == pytest.approx(c_sub, rel=1e-4)
        assert row.hrci_repr_frozen == pytest.approx((abs(h @ r) + c_sub) / 2, rel=1e-4)
        assert row.hrci_frozen == pytest.approx(0.4 * (abs(h @ r) + c_sub) + 0.2 * at.c_layer, rel=1e-4)
    own = ["hrci", "hrci_repr", "c_cos", "c_sub"]
    assert (rows.loc[[0, 4, 8], own].to_numpy() == rows.loc[[0, 4, 8], [f"{n}_frozen" for n in own]].to_numpy()).all()


def test_carriers_file_holds_the_directions_and_their_sites(result):
    folder, tables = result
    tensors = load_file(folder / "carriers.safetensors")
    with safe_open(folder / "carriers.safetensors", "np") as file:
        facts = json.loads(file.metadata()["carriers"])
    written = {f"step{s}.{k}" for s in STEPS for k in ("h", "r", "h_subspace", "r_subspace")}
    assert set(tensors) == written | {f"step{s}.selected" for s in SCORED}
    np.testing.assert_array_equal(tensors["step4.selected"], np.eye(D, dtype=np.float32)[:3])
    assert facts["4"]["selected_sites"] == [[-1, 1], [-2, 3], [-3, 1]] and facts["0"]["selected_sites"] == []
    for row in tables["coupling"].itertuples():
        h, r = tensors[f"step{row.step}.h"], tensors[f"step{row.step}.r"]
        assert abs(h @ r) == pytest.approx(row.c_cos, rel=1e-4) and np.linalg.norm(h) == pytest.approx(1)
        fact = facts[str(row.step)]
        assert (fact["h"]["layer"], fact["r"]["layer"]) == (row.layer_h, row.layer_r)
        assert (fact["h"]["position"], fact["r"]["position"]) == (row.pos_h, row.pos_r)
        assert fact["r"]["admissible"] == (True if row.step in SCORED else None)
        basis = tensors[f"step{row.step}.r_subspace"]
        np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-5)


def test_geometry_starts_at_the_reference(result):
    geometry = result[1]["geometry"].set_index("step")
    reference = geometry.loc[4]
    assert reference[["angle_1", "angle_2", "angle_3", "drift_h_ref", "drift_r_ref"]].abs().max() == pytest.approx(
        0, abs=1e-4
    )
    assert reference[["cos_fixed_h_ref", "cos_fixed_r_ref"]].tolist() == pytest.approx([1, 1])
    assert (geometry.loc[[0, 8, 12], "angle_3"] > 10).all()
    assert geometry.loc[0, ["drift_h_prev", "drift_r_prev"]].isna().all()
    assert geometry.loc[4, "drift_h_prev"] == pytest.approx(geometry.loc[0, "drift_h_ref"])
    assert geometry.s_total_drift.notna().to_dict() == {0: False, 4: True, 8: False, 12: True}
    coupling = result[1]["coupling"].set_index("step")
    assert geometry.s_total_drift[12] == pytest.approx(coupling.s_total[12] - coupling.s_total[4], rel=1e-3)
    assert (geometry.erank >= geometry.pr).all()  # the entropy's rank is never below the participation ratio


def test_companions_are_complete(result):
    controls = result[1]["controls"]
    kinds = {
        "own_sites",
        "isotropic",
        "shuffled",
        "cross_fitted",
        "split_half",
        "fixed_layer",
        "fixed_layer_cross_fitted",
    }
    for step in STEPS:
        at = controls[controls.step == step]
        assert set(at.companion) == kinds
        fixed = at[at.companion == "fixed_layer"]
        assert fixed.layer_h.tolist() == fixed.layer_r.tolist() == [1, 3]
        assert set(at[at.companion == "shuffled"].quantity) == {"c_cos", "c_sub", "hrci", "hrci_repr"}
    assert controls[controls.companion != "isotropic"].n.isin([40, 20, 6]).all()


def test_profile_marks_the_chosen_sites(result):
    profile, coupling = result[1]["profile"], result[1]["coupling"]
    chosen = profile[profile.selected]
    assert (chosen[chosen.carrier == "H"].groupby("step").layer.first() == coupling.set_index("step").layer_h).all()
    assert chosen[chosen.carrier == "R"].step.tolist() == SCORED
    scored = profile[(profile.carrier == "R") & (profile.quantity == "cosmic") & (profile.step == 4)]
    assert len(scored) == 9 and scored.selected.sum() == 1
    usable = scored[scored.admissible.astype(str) == "True"]
    assert (usable.layer > 0).all() and usable.value.max() == scored.value[scored.selected].item()
    assert profile[profile.carrier == "H"].groupby("step").layer.nunique().eq(L).all()


def test_nothing_admissible_is_reported_as_such(tmp_path, monkeypatch):
    coupling = run(tmp_path, monkeypatch, kl=9.0)["coupling"].set_index("step")
    assert (coupling.admissible[SCORED].astype(str) == "False").all() and (coupling.none_share[SCORED] == 1).all()
    assert coupling.hrci.notna().all()


def test_same_bytes_again_and_in_any_order_of_the_inputs(result, tmp_path, monkeypatch):
    folder, _ = result
    order = STEPS[::-1]
    run(tmp_path, monkeypatch, PARAMS | {"steps": order}, order=order)
    for file in OUTPUTS.values():
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [0, 4]}, "one file per step"),
        ({"reference": 7}, r"steps \[7\] have no activations"),
        ({"anchors": {"reference": 4, "4": 4}}, "two anchors share a step"),
        ({"settings": {"h_position": -5}}, "no position -5"),
        ({"settings": {"fixed_layers": [1, 9]}}, r"fixed_layers \[9\] .* 5 blocks"),
        ({"settings": {"subspace_k": 4}}, "k = 4"),
    ],
)
def test_bad_settings_end_with_one_line(change, message, tmp_path, monkeypatch):
    with pytest.raises(JobError, match=message):
        run(tmp_path, monkeypatch, PARAMS | change | {"settings": PARAMS["settings"] | change.get("settings", {})})
    assert not (tmp_path / "coupling.csv").exists()


def test_half_precision_and_bfloat16_are_widened(tmp_path):
    data = activations(0)
    meta = {"positions": json.dumps(POSITIONS)}
    save_file({k: v.astype(np.float16) for k, v in data.items()}, tmp_path / "half.safetensors", meta)
    header, blob = {"__metadata__": meta}, b""
    for name, values in data.items():
        upper_half = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": values.shape,
            "data_offsets": [len(blob), len(blob) + len(upper_half)],
        }
        blob += upper_half
    text = json.dumps(header).encode()
    (tmp_path / "brain.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + blob)
    for name, tolerance in (("half", 1e-3), ("brain", 1e-2)):
        found, n = Activations(tmp_path / f"{name}.safetensors").fit("t_inst", 2)
        expected = np.concatenate([data["fit.harmful"], data["fit.benign"]])[:, 3, 2]
        assert n == N and found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-6)


def test_broken_files_are_named(tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\xff" * 20)
    with pytest.raises(ArtefactError, match="cut off"):
        Tensors(cut)
    data = activations(0)
    data["fit.harmful"][0, 3, 2, 0] = np.inf
    save_file(data, tmp_path / "inf.safetensors", {"positions": json.dumps(POSITIONS)})
    store = Activations(tmp_path / "inf.safetensors")
    with pytest.raises(ArtefactError, match="wider dtype"):
        store.fit("t_inst", 2)
    about = {"n_layers": 5, "null_sites": None}
    save_file({"screen.layers": np.arange(3)}, tmp_path / "scores.safetensors", {"scores": json.dumps(about)})
    with pytest.raises(ArtefactError, match=r"holds no tensor 'screen\.positions'"):
        read_scores(tmp_path / "scores.safetensors")


def test_saves_that_kept_their_means_only(result, tmp_path, monkeypatch):
    """The same values without what needs resampling, and the scored steps untouched."""
    whole = result[1]

    def kept(step):
        data = activations(step)
        if step in SCORED:
            return data
        less = {name: t for name, t in data.items() if name.startswith("mean.")}
        return less | {f"select.{c}.t_inst": data[f"select.{c}"][:, 3].copy() for c in ("harmful", "benign")}

    tables = run(tmp_path, monkeypatch, caches=kept)
    less, more = (load_file(folder / "carriers.safetensors") for folder in (tmp_path, result[0]))
    assert all((less[name] == more[name]).all() for name in more)
    for name in ("profile", "geometry"):
        pd.testing.assert_frame_equal(tables[name], whole[name])
    ranges = [c for c in whole["coupling"] if c[-3:] in ("_lo", "_hi") and not c.startswith("s_total")]
    coupling = tables["coupling"].set_index("step")
    assert coupling.loc[[0, 8], ranges].isna().all(None) and coupling.loc[SCORED, ranges].notna().all(None)
    pd.testing.assert_frame_equal(tables["coupling"].drop(columns=ranges), whole["coupling"].drop(columns=ranges))
    key = ["step", "companion", "quantity", "layer_h"]
    less, more = (t["controls"].set_index(key).sort_index() for t in (tables, whole))
    pd.testing.assert_frame_equal(less.loc[SCORED], more.loc[SCORED])
    saves = less.loc[[0, 8]]
    assert set(saves.index.unique("companion")) == {"own_sites", "isotropic", "fixed_layer"}
    assert (saves.n == 0).all() and saves[["lo", "hi"]].isna().all(None)
    np.testing.assert_allclose(saves.value, more.loc[saves.index, "value"], rtol=1e-4)


# ------------------------------------------------------------------------------------- R by what is refused

REFUSED = {"harmful": np.arange(N) < 8, "benign": np.arange(N) >= 10}


def by_behaviour(missing=()):
    """Caches of a study that contrasts behaviour; at the steps `missing` too few prompts are refused."""

    def cache(step):
        data = activations(step)
        refused = {label: mask & (step not in missing) for label, mask in REFUSED.items()}
        data |= {f"refused.{label}": mask.astype(np.uint8) for label, mask in refused.items()}
        if step not in missing:
            every, mask = (np.concatenate([x["harmful"], x["benign"]]) for x in (
                {label: data[f"fit.{label}"] for label in REFUSED}, REFUSED))  # fmt: skip
            for name, rows in (("refused", mask), ("complied", ~mask)):
                data[f"mean.{name}"] = every[rows].mean(0, dtype=np.float64).astype(np.float32)
        return data

    return cache


def test_r_by_behaviour_and_h_by_prompts(result, tmp_path, monkeypatch):
    tables = run(tmp_path, monkeypatch, caches=by_behaviour())
    tensors = load_file(tmp_path / "carriers.safetensors")
    for row in tables["coupling"].itertuples():
        data = by_behaviour()(row.step)
        means = {name: data[f"mean.{name}"].astype(float) for name in ("harmful", "benign", "refused", "complied")}
        h = unit((means["harmful"] - means["benign"])[3, row.layer_h])
        delta = means["refused"] - means["complied"]
        r = unit(delta[POSITIONS.index(row.pos_r), row.layer_r])
        np.testing.assert_allclose(tensors[f"step{row.step}.r"], r, atol=1e-6)
        assert row.c_cos == pytest.approx(abs(h @ r), rel=1e-4) and row.c_cos_lo <= row.c_cos_hi
        basis = position_subspace(delta[:3, row.layer_r], 3, 1.0)
        assert subspace_coupling(basis, tensors[f"step{row.step}.r_subspace"].astype(float)) == pytest.approx(1)
        field = delta[:3][:, [0, 1, 3]].reshape(-1, D)
        share = np.linalg.svd(field, compute_uv=False) ** 2 / (field**2).sum()
        pr = tables["geometry"].set_index("step").pr[row.step]
        assert pr == pytest.approx(1 / (share**2).sum(), rel=1e-4)
    assert tables["coupling"].layer_h.tolist() == result[1]["coupling"].layer_h.tolist()
    assert not np.allclose(tables["coupling"].c_cos, result[1]["coupling"].c_cos)


def test_a_checkpoint_without_r_has_empty_cells(tmp_path, monkeypatch, capsys):
    """Step 12 is an anchor, step 8 a save that would read R at the sites of step 4."""
    whole = run(tmp_path / "whole", monkeypatch, caches=by_behaviour())
    tables = run(tmp_path / "less", monkeypatch, caches=by_behaviour(missing=(8, 12)))
    coupling = tables["coupling"].set_index("step")
    of_r = [
        "layer_r",
        "pos_r",
        "admissible",
        "c_layer",
        "c_cos",
        "c_sub",
        "hrci",
        "hrci_repr",
        "hrci_repr_lo",
        "hrci_repr_frozen",
        "s_total",
        "kl",
    ]
    assert coupling.loc[[8, 12], of_r].isna().all(None)
    assert coupling.loc[[8, 12], ["layer_h", "pos_h", "h_score", "n_harmful"]].notna().all(None)
    assert coupling.selection.to_dict() == {0: "frozen", 4: "own", 8: "frozen", 12: "own"}
    for name in ("coupling", "geometry", "controls"):
        kept = [t[name][t[name].step.isin([0, 4])].dropna(axis=1, how="all") for t in (tables, whole)]
        pd.testing.assert_frame_equal(*kept, check_dtype=False)
    geometry = tables["geometry"].set_index("step")
    assert geometry.loc[[8, 12], ["erank", "angle_1", "norm_r", "drift_r_ref", "drift_r_prev"]].isna().all(None)
    assert geometry.loc[[8, 12], ["norm_h", "drift_h_ref", "drift_h_prev"]].notna().all(None)
    assert set(tables["controls"].step) == {0, 4} and set(tables["profile"].query("carrier == 'R'").step) == {4}
    assert "step8.r" not in load_file(tmp_path / "less/carriers.safetensors")
    with safe_open(tmp_path / "less/carriers.safetensors", "np") as file:
        facts = json.loads(file.metadata()["carriers"])
    assert facts["12"]["r"] == {"missing": "0 of 24 fit prompts refused, one class is too small"}
    assert "step 12: no refusal carrier of its own: 0 of 24 fit prompts refused" in capsys.readouterr().err


def test_saves_after_an_anchor_without_r_have_none(tmp_path, monkeypatch):
    coupling = run(tmp_path, monkeypatch, caches=by_behaviour(missing=(4,)))["coupling"].set_index("step")
    assert coupling.layer_r.notna().to_dict() == {0: False, 4: False, 8: False, 12: True}
    assert coupling.c_cos_frozen.isna().all()  # the reference has no site to freeze, nor candidates


def test_no_checkpoint_has_r(tmp_path, monkeypatch):
    tables = run(tmp_path, monkeypatch, caches=by_behaviour(missing=STEPS))
    assert tables["coupling"].hrci.isna().all() and tables["coupling"].h_score.notna().all()
    assert not len(tables["controls"]) and tables["geometry"].erank.isna().all()


def demanding(**least) -> dict:
    """Params under which a site is R only with such a gain."""
    return PARAMS | {"settings": PARAMS["settings"] | {"require_gain": True, "min_gain": least}}


def test_without_r_frozen_sites_and_common_layers_are_read_at_another_regimes_reference(result, tmp_path, monkeypatch):
    folder, whole = result
    params = demanding(effect=99.0, cosmic=99.0)
    extra = ["--elsewhere", str(folder / "carriers.safetensors")]
    tables = run(tmp_path, monkeypatch, params | {"elsewhere": 4}, extra=extra)
    coupling, at = tables["coupling"].set_index("step"), whole["coupling"].set_index("step").loc[4]
    assert (coupling.r_status == "reference").all() and coupling.r_reason.str.contains("minimum of 99").all()
    assert coupling[["layer_r", "c_cos", "hrci", "s_total", "site_share"]].isna().all(None)
    frozen = whole["coupling"].set_index("step").c_cos_frozen  # H's sites are the same, and R's is given
    np.testing.assert_allclose(coupling.c_cos_frozen, frozen, rtol=1e-5)
    assert set(tables["controls"].companion) == {"fixed_layer", "fixed_layer_cross_fitted"}
    assert (tables["controls"].pos_r == at.pos_r).all()
    geometry = tables["geometry"].set_index("step")
    assert geometry.drift_r_ref.isna().all() and geometry.loc[4, "cos_fixed_r_ref"] == pytest.approx(1)
    chosen = tables["selection"]
    assert chosen.groupby("in_charge").status.unique().map(list).to_dict() == {False: ["none"], True: ["reference"]}
    less, more = (load_file(place / "carriers.safetensors") for place in (tmp_path, folder))
    assert "step4.r" not in less and (less["step4.selected"] == more["step4.selected"]).all()


def test_without_r_anywhere_frozen_sites_are_those_of_the_best_candidate_at_the_reference(
    result, tmp_path, monkeypatch
):
    """With the same candidates kept as R (`result`) the reference's site is the best one, and frozen values are the same."""
    tables = run(tmp_path / "one", monkeypatch, demanding(effect=99.0, cosmic=99.0))
    coupling, kept = tables["coupling"].set_index("step"), result[1]["coupling"].set_index("step")
    assert (coupling.r_status == "candidate").all() and coupling[["layer_r", "c_cos", "hrci"]].isna().all(None)
    np.testing.assert_allclose(coupling.c_cos_frozen, kept.c_cos_frozen, rtol=1e-5)
    assert set(tables["controls"].companion) == {"fixed_layer", "fixed_layer_cross_fitted"}
    assert set(tables["selection"][tables["selection"].in_charge].status) == {"candidate"}


def test_without_r_anywhere_regimes_are_read_at_one_site_that_of_the_other_reference(result, tmp_path, monkeypatch):
    """The other regime has candidates of its own; where it has none either, this one's are read."""
    none = demanding(effect=99.0, cosmic=99.0)
    run(tmp_path / "other", monkeypatch, none)
    extra = ["--elsewhere", str(tmp_path / "other/carriers.safetensors")]
    params = none | {"elsewhere": 12, "settings": none["settings"] | {"selector": "effect"}}
    run(tmp_path / "here", monkeypatch, params, extra=extra)
    for place in ("other", "here"):
        assert read_carriers(tmp_path / place / "carriers.safetensors", 8).r_status == "candidate"
    sites = [read_carriers(tmp_path / place / "carriers.safetensors", 8).r_site for place in ("other", "here")]
    assert sites[0] == sites[1] == read_carriers(result[0] / "carriers.safetensors", 4).r.site


def test_the_table_of_the_selection_has_both_selectors_at_each_anchor(result):
    chosen = result[1]["selection"]
    assert chosen.groupby("step").selector.apply(list).to_dict() == {step: ["effect", "cosmic"] for step in SCORED}
    assert (chosen.in_charge == (chosen.selector == "cosmic")).all()
    assert chosen.loc[chosen.selector == "effect", "no_op"].eq(0).all() and (chosen.null_95 == -1).all()
    profile = result[1]["profile"].query("carrier == 'R'")
    for row in chosen.itertuples():
        at = profile[
            (profile.step == row.step) & (profile.layer == row.layer) & (profile.position == str(row.position))
        ]
        assert at.loc[at.quantity == row.selector, "value"].item() == pytest.approx(row.gain_all, rel=1e-4)
    assert chosen.null_cos.between(0, 1).all() and (chosen.gain_lo <= chosen.gain_hi).all()
