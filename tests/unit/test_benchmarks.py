"""The benchmarks against other implementations run on a tiny model, agree there, and say so when they do not."""

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import REQUESTS, make_model, make_tokenizer
from pipeline.config_file import read_config, written
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
SWEEP = "--prompts 4 --controls 2 --strengths 1.0 --batches 2,4 --naive-cells 2 --answers 2 --tokens 3 --batch-size 4 --threads 1"
GENERATION = "--rows 1,5 --tokens 6 --threads 1"
SCORING = "--layers 1,2 --positions=-1 --evaluation 3 --prompts 2 --batches 1,2 --batch-size 4 --threads 1"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """A benchmark sets threads and gradients for its own process, and imports what stands beside it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(gradients)


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(monkeypatch, module, *words) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
    module.main()


def measured(monkeypatch, name, model, folder, options):
    """A benchmark's module, the words of its command, and what it wrote."""
    out = folder / f"{name}.json"
    words = ["--model", model, "--json", out, *options.split()]
    module = script(name)
    run(monkeypatch, module, *words)
    return module, words, json.loads(out.read_text())


def test_sweep(monkeypatch, model, tmp_path, capsys):
    module, words, result = measured(monkeypatch, "sweep", model, tmp_path, SWEEP)
    assert [result["readout"][site]["layer"] for site in ("own", "early", "middle", "late")] == [2, 1, 2, 3]
    assert result["readout"]["own"]["cells"] == 3 and result["generation"]["cells"] == 5
    for row in (*result["readout"].values(), result["generation"]):
        assert row["ratio"] > 0 and 0 < row["floor_share"] < math.inf
    assert result["generation"]["different_answers"] == 0 and module.worst(result) < 1e-4
    assert "agree within 0.0001" in capsys.readouterr().out
    run(monkeypatch, module, *words, "--csv", tmp_path / "sweep.csv")
    table = pd.read_csv(tmp_path / "sweep.csv").set_index("part")
    assert list(table.index) == [*(f"readout, {site}" for site in ("own", "early", "middle", "late")), "generation"]
    assert table["matrix_share"].iloc[:4].between(0, 1).all() and (table["ratio"] > 0).all()

    right = module.read_log_odds
    monkeypatch.setattr(module, "read_log_odds", lambda *a: right(*a) + 2e-4)
    with pytest.raises(SystemExit, match=r"NO AGREEMENT: .* 2.*e-04 .*, and 0 answers"):
        run(monkeypatch, module, *words)
    monkeypatch.setattr(module, "read_log_odds", right)
    monkeypatch.setattr(module, "greedy", lambda model, prompts, *a: [[-1]] * len(prompts))
    with pytest.raises(SystemExit, match="and 10 answers are others"):
        run(monkeypatch, module, *words)


def test_scoring(monkeypatch, model, tmp_path, capsys):
    module, words, result = measured(monkeypatch, "scoring", model, tmp_path, SCORING)
    assert result["candidates"] == 2 and set(result["naive_batch_s"]) == {"1", "2"}
    for side in ("engine", "naive"):
        assert len(result[f"{side}_runs_s"]) == 2 and result[f"{side}_s"] == min(result[f"{side}_runs_s"]) > 0
    assert result["ratio"] == result["naive_s"] / result["engine_s"] and module.worst(result) < 1e-4
    assert "agreement within 0.0001" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["scoring.py"])
    assert module.arguments().batches == [1, 2, 4, 8, 16, 32] and module.arguments().repeats == 2

    right = module.score_candidates

    def wrong(*a, **k):
        scores = right(*a, **k)
        return replace(scores, kl=scores.kl + 2e-4)

    monkeypatch.setattr(module, "score_candidates", wrong)
    with pytest.raises(SystemExit, match=r"NO AGREEMENT: 2.*e-04"):
        run(monkeypatch, module, *words)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, module, *words, "--repeats", "1")
    assert ended.value.code == 2


def test_scoring_with_graphs(monkeypatch, model, tmp_path, capsys):
    module, words, result = measured(monkeypatch, "scoring", model, tmp_path, SCORING + " --graphs")
    rows = {(row["work"], row["side"]): row for row in result["table"]}
    assert set(rows) == {
        ("candidates", "naive"),
        *((w, s) for w in ("candidates", "probes") for s in ("engine", "graphs")),
    }
    for row in rows.values():
        assert row["first_s"] > 0 and row["tokens_s"] > 0
        assert row["share"] == pytest.approx(row["tokens_s"] * 2 * matrices(model) / result["matrix_rate"])
    assert max(v for k, v in result.items() if k.startswith("graphs_difference")) < 1e-4
    assert "probes      graphs" in capsys.readouterr().out

    right = module.score_candidates

    def wrong(runner, *a, **k):
        scores = right(runner, *a, **k)
        return scores if runner.graphs is None else replace(scores, kl=scores.kl + 2e-4)

    monkeypatch.setattr(module, "score_candidates", wrong)
    with pytest.raises(SystemExit, match=r"NO AGREEMENT: 2.*e-04"):
        run(monkeypatch, module, *words)


def matrices(folder) -> int:
    """Parameters of the matrices of all blocks."""
    tensors = load_file(folder / "model.safetensors")
    return sum(t.numel() for name, t in tensors.items() if ".layers." in name and t.ndim == 2)


def test_generation(monkeypatch, model, tmp_path, capsys):
    module, words, result = measured(monkeypatch, "generation", model, tmp_path, GENERATION)
    assert [(row["rows"], row["side"]) for row in result["table"]] == [
        (rows, side) for rows in (1, 5) for side in ("transformers", "engine", "graphs")
    ]
    head = load_file(model / "model.safetensors")["model.embed_tokens.weight"].numel()
    for row in result["table"]:
        assert row["other_answers"] == 0 and row["tokens_s"] == pytest.approx(row["rows"] / row["step_s"])
        work = 2 * row["rows"] * (matrices(model) + head)
        assert row["share"] == pytest.approx(work / row["step_s"] / result["matrix_rate"])
    assert "0 of 5" in capsys.readouterr().out

    right = module.ours
    monkeypatch.setattr(module, "ours", lambda runner, *a: right(runner, *a) if runner.graphs is None else [[-1]])
    with pytest.raises(SystemExit, match="NO AGREEMENT: 1 answers are not those of transformers"):
        run(monkeypatch, module, *words, "--rows", "1")
    for wrong in (["--tokens", "1"], ["--repeats", "1"]):
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, module, *words, *wrong)
        assert ended.value.code == 2


def test_r2d2_step(monkeypatch, model, tmp_path, capsys):
    config = read_config(ROOT / "configs/smoke.yaml")
    config["train"]["max_length"] = 400
    (tmp_path / "config.yaml").write_text(written(config))
    module = script("r2d2_step")
    for names in module.TIMED.values():  # put back afterwards: the benchmark times them by replacing them
        for name in names:
            monkeypatch.setattr(module.gcg, name, getattr(module.gcg, name, None), raising=False)
    words = ["--model", model, "--config", tmp_path / "config.yaml", "--steps", "1"]
    run(monkeypatch, module, *words, "--json", tmp_path / "before.json")
    run(monkeypatch, module, *words, "--json", tmp_path / "after.json", "--before", tmp_path / "before.json")
    before, after = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("before", "after"))
    for part in module.PARTS:
        assert before["seconds"][part] > 0, part  # none of the timed functions has gone
    assert all(before["floor_s"][part] > 0 for part in ("scoring", "gradient", "prefix", "training", "total"))
    assert after["before"]["seconds"] == before["seconds"]
    assert "before   share" in capsys.readouterr().out
    run(
        monkeypatch,
        module,
        *words,
        "--row-tokens",
        300,
        "--batch-size",
        2,
        "--csv",
        tmp_path / "step.csv",
        "--json",
        tmp_path / "long.json",
    )
    table = pd.read_csv(tmp_path / "step.csv").set_index("part")
    assert list(table.index) == ["scoring", "gradient", "prefix", "training", "total"] and (table["rows"] == 2).all()
    assert ((table["share"] > 0) & (table["share"] < 1)).all()
    assert table["share"].tolist() == pytest.approx((table["floor_s"] / table["seconds"]).tolist(), rel=1e-4)
    long = json.loads((tmp_path / "long.json").read_text())
    assert 250 < long["row_tokens"] <= 400 and long["floor_s"]["training"] > before["floor_s"]["training"]


def test_r2d2_step_of_the_papers_at_a_known_shape(monkeypatch, tmp_path):
    """The papers' configuration (180 cases, 16 rows one by one), cut in the attack's width, on random weights in bfloat16."""
    config = read_config(ROOT / "configs/paper.yaml")
    config["pool"]["gcg"] |= {"width": 4, "steps": 1, "top_k": 16, "batch_size": 8}
    config["pool"]["per_step"], config["train"]["rows"] = 2, 3
    (tmp_path / "config.yaml").write_text(written(config))
    module, machine = script("r2d2_step"), importlib.import_module("machine")
    monkeypatch.setitem(
        machine.KNOWN, "mistral-7b", machine.KNOWN["mistral-7b"].__class__(2, 32, 48, 4, 2, 8, 600, False)
    )
    for names in module.TIMED.values():
        for name in names:
            monkeypatch.setattr(module.gcg, name, getattr(module.gcg, name, None), raising=False)
    words = [
        "--shape",
        "mistral-7b",
        "--work",
        tmp_path,
        "--dtype",
        "bfloat16",
        "--config",
        tmp_path / "config.yaml",
        "--steps",
        "1",
    ]
    run(monkeypatch, module, *words, "--csv", tmp_path / "step.csv")
    table = pd.read_csv(tmp_path / "step.csv")
    assert (
        set(table["model"]) == {"mistral-7b-bfloat16"}
        and set(table["dtype"]) == {"bfloat16"}
        and set(table["card"]) == {"CPU"}
    )
    with pytest.raises(SystemExit, match="use --clock wall"):
        run(monkeypatch, module, *words, "--device", "cuda", "--clock", "cpu")


def test_pool_trial(monkeypatch, model, tmp_path, capsys):
    """Every variant attacks the same cases from its own start, and ends where its seconds do."""
    rows = [{"id": f"b{i}", "prompt": q, "target": "Sure, here is a list"} for i, q in enumerate(REQUESTS)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    variants = {"present": {"width": 4, "top_k": 8}, "other": {"width": 4, "top_k": 8, "init": "random", "merge": 2}}
    (tmp_path / "variants.json").write_text(json.dumps(variants))
    words = ["--model", model, "--pool", tmp_path / "pool.jsonl", "--variants", tmp_path / "variants.json"]
    words += ["--cases", "3", "--visits", "2", "--seconds", "0.05", "--csv", tmp_path / "trial.csv"]
    module = script("pool_trial")
    run(monkeypatch, module, *words)
    table = pd.read_csv(tmp_path / "trial.csv").set_index("variant")
    assert list(table.index) == list(variants) and (table["cases"] == 3).all() and (table["visits"] == 2).all()
    assert (table["gain"] > 0).all() and (table["steps"] >= 1).all() and (table["spent_s"] >= 0.05).all()
    for _, row in table.iterrows():
        assert row["gain"] == pytest.approx((row["start"] - row["end"]) / 2, rel=1e-4)
        assert row["gain_s"] == pytest.approx(row["gain"] / row["spent_s"], rel=1e-4)
    assert table.loc["present", "start"] != table.loc["other", "start"]
    assert "gain/s" in (shown := capsys.readouterr().out) and not any(q in shown for q in REQUESTS)
    with pytest.raises(SystemExit, match="--clock wall"):
        run(monkeypatch, module, *words, "--device", "cuda")


def test_statements_are_counted_without_docstrings():
    spec = importlib.util.spec_from_file_location("statements", ROOT / "benchmarks" / "statements.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.statements('"""Says."""\n\n\ndef f():\n    """Does."""\n    if True:\n        return 1; x = 2\n') == 4
    places = (
        "src/safety_geometry/geometry/coupling.py",
        "src/safety_geometry/old.py",
        "workflow/scripts/tables.py",
        "workflow/run.py",
    )
    assert [module.area(path) for path in places] == ["geometry", "(library)", "workflow/scripts", "workflow"]
    assert next(module.table([module.count(None)])).split() == ["area", "statements", "lines"]


def test_variants_of_a_scoring_pass(monkeypatch, model, tmp_path, capsys):
    options = "--rows 4 --tokens 12 --repeats 1 --cases 2 --steps 1 --width 12 --rows-per-thread"
    module, out = script("gcg_variants"), tmp_path / "variants.json"
    monkeypatch.setattr(module, "START", " !")
    run(monkeypatch, module, "--model", model, "--json", out, *options.split())
    found = json.loads(out.read_text())
    assert set(found["seconds"]) == {"whole", "blocks", "products of the blocks", "fused", "int8", "bfloat16"}
    assert set(found["two_threads"]) == {"operations", "rows"}
    assert all(seconds > 0 for seconds in [*found["seconds"].values(), *found["two_threads"].values()])
    for each in found["ranking"].values():
        assert each["steps"] == 2 and each["largest_regret"] >= 0 and -1 <= each["least_correlation"] <= 1
    assert found["ranking"]["bfloat16"]["mean_correlation"] > found["ranking"]["int8"]["mean_correlation"] - 0.2
    assert "variant" in capsys.readouterr().out
