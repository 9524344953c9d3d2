"""benchmarks/attack_quality.py on a tiny model: equal starts, budgets kept, resumed equals one go, and its sums."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_model, make_tokenizer

from safety_geometry.attacks.gcg.losses import uncached_loss

ROOT = Path(__file__).parents[2]
NAMES = "merge,probe,lsgm,momentum,mellowmax"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def quality(monkeypatch):
    spec = importlib.util.spec_from_file_location("attack_quality", ROOT / "benchmarks" / "attack_quality.py")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "attack_quality", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TARGET", 4)
    monkeypatch.setattr(module, "BASE", {"top_k": 16, "suffix_length": 6, "init": "random"})
    monkeypatch.setitem(module.VARIANTS, "nanogcg", {"width": 12})
    return module


def run(quality, monkeypatch, folder, out, *words):
    given = {"--budget": "3e8,1e9", "--targets": "2", "--seeds": "1", "--variants": NAMES, "--threads": "1"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    command = ["x", "--model", str(folder), "--csv", str(out), *(w for pair in given.items() for w in pair)]
    monkeypatch.setattr(sys, "argv", command)
    quality.main()
    return pd.read_csv(out)


def test_losses_and_success_at_equal_operations(quality, monkeypatch, folder, tmp_path, capsys):
    seen, right = [], quality.plain
    monkeypatch.setattr(quality, "plain", lambda model, s: (seen.append((model, s)), right(model, s))[1])
    table = run(quality, monkeypatch, folder, tmp_path / "q.csv")
    names = ["nanogcg", *NAMES.split(",")]
    assert len(table) == len(names) * 2 * 2 * 2 and set(table["variant"]) == set(names)
    assert (table["operations"] <= table["budget"]).all() and (table["loss"] <= table["loss_start"] + 1e-6).mean() > 0.9
    later = table.pivot_table(index=["variant", "set", "target"], columns="budget", values=["loss", "steps"])
    assert (later["steps"][1e9] > later["steps"][3e8]).all()
    starts = table.groupby(["set", "target"])["loss_start"].nunique()
    assert (starts == 1).all() and table["loss_start"].nunique() == 4  # the same start for all variants
    for model, suffix in seen[:5]:
        assert len(suffix.ids) - suffix.target_start == 4
        logits = model.model(input_ids=model.runner.body.embed_tokens.weight.new_tensor([suffix.ids]).long()).logits
        exact = logits[0, suffix.target_start - 1 : -1].argmax(-1).tolist() == list(suffix.ids[suffix.target_start :])
        loss, success = right(model, suffix)
        assert loss == pytest.approx(uncached_loss(model.runner, suffix)) and success == exact
    settings = {row["variant"]: json.loads(row["settings"]) for row in table.to_dict("records")}
    assert settings["probe"]["probe"]["layers"] == 3 and not any("echo" in each for each in settings.values())
    summary = pd.read_csv(tmp_path / "q_summary.csv")
    assert len(summary) == len(names) * 2 * 2 and (summary["targets"] == 2).all()
    assert (tmp_path / "q.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    assert "chosen on the targets of choice: " in told and "on 2 others its loss less nanogcg's is" in told


def test_a_stopped_run_goes_on(quality, monkeypatch, folder, tmp_path, capsys):
    whole = run(quality, monkeypatch, folder, tmp_path / "whole.csv", "--variants", "merge,momentum")
    right, made = quality.search, []

    def stopped(*a):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(1)
        return right(*a)

    monkeypatch.setattr(quality, "search", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(quality, monkeypatch, folder, tmp_path / "part.csv", "--variants", "merge,momentum")
    assert len(pd.read_csv(tmp_path / "part.csv")) == 6
    monkeypatch.setattr(quality, "search", lambda *a: (made.append(1), right(*a))[1])
    after = run(quality, monkeypatch, folder, tmp_path / "part.csv", "--variants", "merge,momentum")
    assert len(made) == 12 and "12 cases to 1e+09 operations each, 3 done" in capsys.readouterr().out
    pd.testing.assert_frame_equal(after.drop(columns="seconds"), whole.drop(columns="seconds"))
    more = run(quality, monkeypatch, folder, tmp_path / "part.csv", "--variants", "merge,momentum", "--targets", "3")
    assert len(made) == 18 and len(more) == 36
    fewer = run(quality, monkeypatch, folder, tmp_path / "part.csv", "--variants", "merge", "--targets", "1")
    assert len(made) == 18 and len(fewer) == 36  # what was not asked for now is kept
    assert set(pd.read_csv(tmp_path / "part_summary.csv")["variant"]) == {"nanogcg", "merge"}


def test_what_does_not_belong_together_is_refused(quality, monkeypatch, folder, tmp_path):
    out = tmp_path / "q.csv"
    few = ("--targets", "1", "--budget", "1e8", "--variants", "merge")
    run(quality, monkeypatch, folder, out, *few)
    monkeypatch.setitem(quality.VARIANTS, "merge", {"width": 5})
    with pytest.raises(SystemExit, match="has merge with other settings; name another --csv"):
        run(quality, monkeypatch, folder, out, *few)
    monkeypatch.setattr(quality, "REQUEST", "Stop.")
    with pytest.raises(SystemExit, match="is of another request"):
        run(quality, monkeypatch, folder, out, *few)
    with pytest.raises(SystemExit, match="there is no echo; there are nanogcg"):
        run(quality, monkeypatch, folder, tmp_path / "other.csv", *few[:-1], "echo")


def test_sums_by_hand(quality):
    """Three targets, two seeds each: a variant that is .5 lower on every target, whatever the target."""
    rows = [
        {"variant": name, "set": of_set, "target": t, "seed": s, "budget": 1e9, "loss": t + 0.1 * s - less, "success": int(less > 0)}
        for name, less in (("nanogcg", 0.0), ("better", 0.5)) for of_set in ("choice", "heldout") for t in range(3) for s in range(2)
    ]  # fmt: skip
    summary = quality.summarise(pd.DataFrame(rows)).set_index(["set", "variant"])
    held = summary.loc[("heldout", "better")]
    assert held["loss"] == pytest.approx(0.55) and held["loss_lo"] < 0.55 < held["loss_hi"]
    np.testing.assert_allclose(held[[f"loss_less_nanogcg{end}" for end in ("", "_lo", "_hi")]].astype(float), -0.5)
    assert held["success_less_nanogcg"] == 1 and summary.loc[("heldout", "nanogcg"), "success"] == 0
    last = quality.told(summary.reset_index())[-1]
    assert last.startswith(
        "chosen on the targets of choice: better; on 3 others its loss less nanogcg's is -0.50 [-0.50, -0.50]"
    )
