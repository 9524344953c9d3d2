"""probe.py and probe_saves.py on a tiny model: a save probed in a group is the save probed alone."""

import json
import sys

import fit_labels
import numpy as np
import probe
import probe_saves
import pytest
from _job import JobError
from conftest import REQUESTS
from pipeline.costs import shapes, sizes
from safetensors.numpy import load_file
from test_adapters import folder, save_adapter  # noqa: F401  (a fixture)

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.candidate_scores import read_scores
from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.models.positions import T_INST

PARAMS = {
    "model": {"dtype": "float32", "device": "cpu", "threads": 1, "system": None},
    "positions": [-2, -1], "dtype": "float32", "batch_size": 4, "keep": "all",
}  # fmt: skip
SCORING = {"layers": [1, 2], "max_layer_fraction": 0.8, "candidate_positions": [-2, -1],
           "coefficient": 1.0, "evaluation_share": 0.3, "score_batch": 8, "removal": "layer", "answer_batch": 4,
           "selection": {"in_charge": "effect", "kl_max": 5.0, "beta_kl": 1.0, "min_gain": {"effect": 0.0, "cosmic": 0.0},
                         "validation": 4, "screen": 2, "finalists": 3, "null_sets": 2, "null_sites": 2, "openings": ["Sorry"],
                         "answer_tokens": 2, "require_gain": False, "seed": 1}}  # fmt: skip


@pytest.fixture(scope="module")
def study(folder, tmp_path_factory):  # noqa: F811
    """Base model, three adapters and the four sets of prompts."""
    root = tmp_path_factory.mktemp("study")
    (root / "base").symlink_to(folder)
    for step in (1, 2, 3):
        save_adapter(root / f"step{step}", step)
    for number, name in enumerate(("fit_harmful", "fit_benign", "select_harmful", "select_benign")):
        rows = [{"prompt": f"{text} {'please' * number}"} for text in REQUESTS[:5]]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def run(monkeypatch, script, study, files: dict[str, list], params: dict) -> None:
    sets = {
        name: [study / f"{name}.jsonl"] for name in ("fit_harmful", "fit_benign", "select_harmful", "select_benign")
    }
    words = [script.__name__ + ".py"]
    for name, paths in ({"model": [study / "base"]} | sets | files).items():
        words += [f"--{name.replace('_', '-')}", *map(str, paths)]
    monkeypatch.setattr(sys, "argv", [*words, "--params", json.dumps(params)])
    script.main()


def probed(monkeypatch, study, out, steps, **params) -> dict[int, bytes]:
    """Files of the steps, their sidecars behind them."""
    paths = {step: out / f"step{step}.safetensors" for step in steps}
    files = {"adapters": [study / f"step{step}" for step in steps], "activations": list(paths.values())}
    run(monkeypatch, probe_saves, study, files, PARAMS | params)
    return {s: p.read_bytes() + p.with_name(p.name + ".provenance.json").read_bytes() for s, p in paths.items()}


def test_a_group_gives_each_save_what_it_gets_alone(study, tmp_path, monkeypatch):
    together = probed(monkeypatch, study, tmp_path / "group", [1, 2, 3])
    alone = {step: probed(monkeypatch, study, tmp_path / "alone", [step])[step] for step in (3, 1, 2)}
    assert together == alone and len(set(together.values())) == 3


def test_an_anchor_gives_the_same_activations(study, tmp_path, monkeypatch):
    """A save that becomes an anchor gets scores beside the activations that it had."""
    probed(monkeypatch, study, tmp_path, [1, 2])
    files = {"adapter": [study / "step2"], "activations": [tmp_path / "a"], "scores": [tmp_path / "s"]}
    run(monkeypatch, probe, study, files, PARAMS | SCORING)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "step2.safetensors").read_bytes()
    scores = read_scores(tmp_path / "s")
    assert scores.screen.layers.tolist() == [1, 1, 2, 2] and scores.screen.kl.shape == (4, 2)
    assert scores.finals.kl.shape == (3, 4) and scores.n_screen == 2 and scores.kl_everywhere.shape == (3,)
    sites = set(zip(scores.finals.layers, scores.finals.positions, strict=True))
    assert scores.null.count == 2 and scores.null.directions.shape == (2, 32)
    assert set(zip(scores.null.layers, scores.null.positions, strict=True)) <= sites
    places = [list(zip(each.layers, each.positions, strict=True)) for each in (scores.screen, scores.finals)]
    for c, site in enumerate(places[1]):  # the screen's prompts are not run again
        assert (scores.finals.kl[c, :2] == scores.screen.kl[places[0].index(site)]).all()
    assert scores.openings.n_answers == 10 and scores.openings.n_answered <= 5


def test_every_prompt_is_asked_and_candidates_are_run_on_those_it_answers(study, tmp_path, monkeypatch):
    """Of five benign prompts the first two are refused: the four that candidates are run on are the others and one."""
    probed(monkeypatch, study, tmp_path, [1])
    answers = iter(["refusal"] * 5 + ["refusal"] * 2 + ["none"] * 3)
    monkeypatch.setattr(probe, "classify", lambda text: next(answers))
    files = {"adapter": [study / "step1"], "activations": [tmp_path / "a"], "scores": [tmp_path / "s"]}
    run(monkeypatch, probe, study, files, PARAMS | SCORING)
    scores = read_scores(tmp_path / "s")
    assert (scores.openings.n_answers, scores.openings.n_refused, scores.openings.n_answered) == (10, 7, 3)
    assert scores.benign_order.tolist() == [2, 3, 4, 0] and scores.finals.answered.tolist() == [1, 1, 1, 0]


def test_means_only(study, tmp_path, monkeypatch):
    probed(monkeypatch, study, tmp_path / "all", [1])
    probed(monkeypatch, study, tmp_path / "less", [1], keep="anchors", select_position=T_INST)
    whole, less = (Activations(tmp_path / name / "step1.safetensors") for name in ("all", "less"))
    assert whole.per_prompt and not less.per_prompt
    for label in ("harmful", "benign"):
        assert (whole.mean(label) == less.mean(label)).all()
        assert (whole.select(label, T_INST) == less.select(label, T_INST)).all()
    with pytest.raises(ArtefactError, match=r"no tensor 'select\.harmful\.-1'"):
        less.select("harmful", -1)


@pytest.mark.parametrize("behaviour", [False, True])
@pytest.mark.parametrize("whole", [True, False])
def test_a_cache_has_the_bytes_that_the_cost_model_says(study, tmp_path, monkeypatch, whole, behaviour):
    """5 prompts of each of four sets, of the test model's 4 blocks of width 32; the header of the file comes on top."""
    params = {"keep": "all"} if whole else {"keep": "anchors", "select_position": -1}
    files = {"adapters": [study / "step1"], "activations": [tmp_path / "a"]}
    if behaviour:
        files["labels"], params["class_min"] = [labelled(tmp_path)], 4
    for dtype in ("float16", "float32"):
        run(monkeypatch, probe_saves, study, files, PARAMS | params | {"dtype": dtype})
        content = (tmp_path / "a").read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        shape = shapes.fetched(study / "base")
        assert len(content) == header + sizes.cache(shape, 3, dtype, 10, 10, whole, behaviour) and header < 1024


def test_a_saved_adapter_has_the_bytes_that_the_cost_model_says(study):
    content = (study / "step1" / "adapter_model.safetensors").read_bytes()
    shape = shapes.fetched(study / "base")
    assert len(content) == 8 + int.from_bytes(content[:8], "little") + sizes.adapter(shape, 4, ["q_proj", "o_proj"])


def test_a_cache_is_what_all_activations_in_memory_give(study, tmp_path, monkeypatch):
    """The file against the same tensors recorded whole, their means in float64, written in one go."""
    from safetensors.torch import save_file

    from safety_geometry.geometry.activations import record
    from safety_geometry.models.chat import ChatFormat
    from safety_geometry.models.loading import load_model
    from safety_geometry.models.runner import Runner
    from safety_geometry.models.tokenizer import load_tokenizer

    probed(monkeypatch, study, tmp_path, [2], dtype="float16", batch_size=2)
    chat = ChatFormat(load_tokenizer(study / "base"))
    runner, tensors = Runner(load_model(study / "base", adapter=study / "step2")), {}
    for name in ("fit_harmful", "fit_benign", "select_harmful", "select_benign"):
        texts = [json.loads(line)["prompt"] for line in (study / f"{name}.jsonl").read_text().splitlines()]
        found = record(runner, chat.render_many(texts), [-2, -1, T_INST], 2, chat.n_prefix)
        tensors[name.replace("_", ".")] = found.half()
        if name.startswith("fit"):
            tensors[f"mean.{name[4:]}"] = found.double().mean(0).float()
    save_file(tensors, tmp_path / "want", {"positions": json.dumps([-2, -1, T_INST])})
    assert (tmp_path / "step2.safetensors").read_bytes() == (tmp_path / "want").read_bytes()


def test_as_many_adapters_as_files(study, tmp_path, monkeypatch):
    files = {"adapters": [study / "step1", study / "step2"], "activations": [tmp_path / "a"]}
    with pytest.raises(JobError, match="1 outputs for 2 adapters"):
        run(monkeypatch, probe_saves, study, files, PARAMS)


# ------------------------------------------------------------------------------------- contrast of refusal and compliance

LABELS = {"harmful": [True, True, False, True, False], "benign": [False, True, False, False, False]}


def labelled(place, labels=LABELS):
    path = place / "labels.json"
    path.write_text(json.dumps(labels))
    return path


def test_an_anchor_by_behaviour(study, tmp_path, monkeypatch):
    """Means and candidates are those of refused and other prompts, harmful and benign alike; the rest is as without."""
    files = {"adapter": [study / "step2"], "activations": [tmp_path / "a"], "scores": [tmp_path / "s"]}
    run(monkeypatch, probe, study, files, PARAMS | SCORING)
    plain, scores = load_file(tmp_path / "a"), load_file(tmp_path / "s")
    files["labels"] = [labelled(tmp_path)]
    run(monkeypatch, probe, study, files, PARAMS | SCORING | {"class_min": 4})
    found, other = load_file(tmp_path / "a"), load_file(tmp_path / "s")
    assert all((found[name] == plain[name]).all() for name in plain)
    every = np.concatenate([plain["fit.harmful"], plain["fit.benign"]]).astype(np.float64)
    refused = np.array(LABELS["harmful"] + LABELS["benign"])
    means = [np.mean([row for row, is_refused in zip(every, refused, strict=True) if is_refused is side], 0)
             for side in (np.True_, np.False_)]  # fmt: skip
    assert found["refused.harmful"].tolist() == LABELS["harmful"]
    np.testing.assert_allclose(found["mean.refused"], means[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["mean.complied"], means[1], rtol=1e-6, atol=1e-6)
    delta = means[0] - means[1]
    at = [(-2, -1).index(position) for position in other["screen.positions"]]
    norms = np.linalg.norm(delta[at, other["screen.layers"]], axis=1)
    np.testing.assert_allclose(other["screen.norm"], norms, rtol=1e-4)
    assert (other["screen.clean_harmful"] == scores["screen.clean_harmful"]).all()
    assert not np.allclose(other["screen.kl"], scores["screen.kl"])


def test_an_anchor_that_refuses_too_little(study, tmp_path, monkeypatch):
    files = {"adapter": [study / "step2"], "activations": [tmp_path / "a"], "scores": [tmp_path / "s"]}
    run(monkeypatch, probe, study, files | {"labels": [labelled(tmp_path)]}, PARAMS | SCORING | {"class_min": 5})
    store = Activations(tmp_path / "a")
    assert store.r_classes() is None and store.refused().sum() == 4
    assert read_scores(tmp_path / "s") is None


def test_labels_of_other_prompts_are_refused(study, tmp_path, monkeypatch):
    files = {"adapter": [study / "step2"], "activations": [tmp_path / "a"], "scores": [tmp_path / "s"]}
    labels = labelled(tmp_path, LABELS | {"benign": [True]})
    with pytest.raises(ArtefactError, match=r"\[5, 1\] labels for \[5, 5\] prompts"):
        run(monkeypatch, probe, study, files | {"labels": [labels]}, PARAMS | SCORING | {"class_min": 4})


def test_saves_by_behaviour_each_with_its_labels(study, tmp_path, monkeypatch):
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, labels in zip(paths, (LABELS, {c: [not x for x in row] for c, row in LABELS.items()}), strict=True):
        path.mkdir()
        labelled(path, labels)
    files = {"adapters": [study / "step1", study / "step1"], "activations": [path / "a" for path in paths],
             "labels": [path / "labels.json" for path in paths]}  # fmt: skip
    run(monkeypatch, probe_saves, study, files, PARAMS | {"class_min": 4, "keep": "anchors", "select_position": -1})
    one, two = (load_file(path / "a") for path in paths)
    assert (one["mean.refused"] == two["mean.complied"]).all() and "fit.harmful" not in one
    assert one["refused.benign"].tolist() == LABELS["benign"]


def test_fit_labels_are_those_of_each_checkpoints_own_answers(study, tmp_path, monkeypatch):
    """Against Hugging Face's own greedy decoding; the rule is replaced by one that these random models can fulfil."""
    import torch

    from safety_geometry.models.chat import ChatFormat
    from safety_geometry.models.loading import load_model
    from safety_geometry.models.tokenizer import load_tokenizer

    def rule(text: str) -> str:
        return "full" if len(text) % 2 else "none"

    monkeypatch.setattr(fit_labels, "classify", rule)
    words = ["fit_labels.py", "--model", study / "base", "--fit-harmful", study / "fit_harmful.jsonl"]
    words += ["--fit-benign", study / "fit_benign.jsonl", "--adapters", study / "step1", study / "step2"]
    outputs = [tmp_path / "1.json", tmp_path / "2.json"]
    params = {"model": PARAMS["model"], "answer_tokens": 5, "batch_size": 3}
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--labels", *map(str, outputs), "--params", json.dumps(params)])
    fit_labels.main()
    tokenizer = load_tokenizer(study / "base")
    chat = ChatFormat(tokenizer)
    for step, output in enumerate(outputs, 1):
        model, found = load_model(study / "base", adapter=study / f"step{step}"), json.loads(output.read_text())
        for label in ("harmful", "benign"):
            expected = []
            for line in (study / f"fit_{label}.jsonl").read_text().splitlines():
                ids = torch.tensor([chat.render(json.loads(line)["prompt"]).ids])
                out = model.generate(
                    ids, max_new_tokens=5, do_sample=False, eos_token_id=list(chat.stop_ids), pad_token_id=0
                )
                expected.append(rule(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)) != "none")
            assert found[label] == expected
        assert set(found) == {"harmful", "benign"}
