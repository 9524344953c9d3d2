"""Reply inversion against plain Hugging Face forwards with hooks, one question at a time, and against closed forms."""

import numpy as np
import pytest
import torch
from conftest import REQUESTS, make_model, make_tokenizer

from safety_geometry.artefacts.carriers import Carrier, CarrierPair
from safety_geometry.artefacts.tables.files import check_table, frame_of
from safety_geometry.artefacts.tables.reply_inversion import REPLY_INVERSION
from safety_geometry.causal.inversion import accuracy, at_chance, auroc, describe, over_r, stacked
from safety_geometry.causal.question import EDITS, HARM, HARMLESS, WORDINGS
from safety_geometry.causal.reply_inversion import harm_scores, interventions_of, inversion_rows
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.runner import Runner

WIDTH = 32


def carrier(kind: str, layer: int, seed: int) -> Carrier:
    direction = np.random.default_rng(seed).standard_normal(WIDTH)
    direction /= np.linalg.norm(direction)
    return Carrier(kind, layer, -1, direction, 1.7, 0.0, None, direction[:, None])


H, R = carrier("H", 1, 4), carrier("R", 2, 5)
PAIR = CarrierPair("reference", "own", H, R)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request) -> LanguageModel:
    return LanguageModel(Runner(make_model(request.param, window=None)), ChatFormat(make_tokenizer()))


def plainly(model: LanguageModel, request: str, hook=None, layer: int = 0) -> float:
    """Log-odds of the two answers' first tokens, mean over the wordings, by a whole forward pass."""
    tokenizer, values = model.tokenizer, []
    first, other = (tokenizer(text, add_special_tokens=False).input_ids[0] for text in (HARM, HARMLESS))
    for wording in WORDINGS:
        ids = model.chat.render(wording.format(request=request)).ids
        handle = hook and model.model.model.layers[layer].register_forward_pre_hook(hook, with_kwargs=True)
        with torch.no_grad():
            log_p = torch.log_softmax(model.model(torch.tensor([ids])).logits[0, -1].double(), -1)
        if handle:
            handle.remove()
        values.append(float(log_p[first] - log_p[other]))
    return float(np.mean(values))


def edited(each: Carrier, family: str, strength: float):
    u = torch.tensor(each.direction, dtype=torch.float32)

    def hook(module, args, kwargs):
        a = args[0]
        moved = a - strength * (a @ u)[..., None] * u if family == "ablate" else a + strength * each.norm * u
        return (moved, *args[1:]), kwargs

    return hook


def test_scores_are_those_of_a_whole_forward_pass(model):
    clean = harm_scores(model, REQUESTS, [()], batch_size=3)
    assert clean[0] == pytest.approx([plainly(model, text) for text in REQUESTS], abs=1e-4)
    for each in (H, R):
        for edit in EDITS:
            got = harm_scores(model, REQUESTS[:3], [interventions_of(each, edit)], batch_size=4)[0]
            wanted = [plainly(model, text, edited(each, *edit), each.layer) for text in REQUESTS[:3]]
            assert got == pytest.approx(wanted, abs=1e-4)
            assert np.abs(got - clean[0, :3]).max() > 1e-3


def test_rows_are_a_table_with_every_edit(model):
    rows = inversion_rows(model, REQUESTS[:3], REQUESTS[3:], PAIR, 8, least_accuracy=0.0, draws=50, seed=1)
    identity = {"seed": 1, "regime": "aligned", "step": 0, "anchor": "reference"}
    frame = frame_of([identity | row for row in rows], REPLY_INVERSION)
    check_table(frame, REPLY_INVERSION)
    wanted = 1 if rows[0]["at_chance"] else 1 + 2 * len(EDITS)  # a random model may be at chance
    assert len(frame) == wanted and frame["carrier"].iloc[0] == "none"
    assert (frame.loc[0, ["shift_harmful", "shift_benign"]] == 0).all()
    assert len(stacked([frame, frame])) == 2 * wanted


def test_a_model_that_cannot_answer_is_left_out(model, monkeypatch):
    asked = []

    def scores(model, requests, cells, batch_size):
        asked.append(len(cells))
        return np.tile(np.where(np.arange(len(requests)) < 8, high, -1.0), (len(cells), 1))

    monkeypatch.setattr("safety_geometry.causal.reply_inversion.harm_scores", scores)
    texts = [f"request {i}" for i in range(8)]
    high = 1.0
    rows = inversion_rows(model, texts, texts, PAIR, 8, 0.6, draws=50, seed=1)
    assert [row["carrier"] for row in rows] == ["none", "H", "H", "H", "R", "R", "R"] and asked == [1, 6]
    high = -0.5  # ordered, and yet no harmful request is said to be harmful: half of the answers are right
    assert [row["at_chance"] for row in inversion_rows(model, texts, texts, PAIR, 8, 0.6, 50, 1)] == [True]
    high = -1.0
    assert [row["at_chance"] for row in inversion_rows(model, texts, texts, PAIR, 8, 0.0, 50, 1)] == [True]
    without = CarrierPair("reference", "own", H, None, "none was found")
    high = 1.0
    assert [row["carrier"] for row in inversion_rows(model, texts, texts, without, 8, 0.6, 50, 1)] == ["none"] + [
        "H"
    ] * 3


def test_how_much_further_h_moves_the_scores_than_r_is_paired():
    rng = np.random.default_rng(2)
    moved = {"harmful": rng.normal(size=9), "benign": rng.normal(size=7)}
    same = {name: scores - 0.5 for name, scores in moved.items()}
    row = over_r(moved, same, draws=100, seed=1)
    for name in moved:
        assert (row[f"over_r_{name}"], row[f"over_r_{name}_lo"], row[f"over_r_{name}_hi"]) == pytest.approx((0.5,) * 3)


def test_rows_of_h_stand_beside_those_of_r(model, monkeypatch):
    """Of equal edits: the H rows have the difference to R's, the others have none."""

    def scores(model, requests, cells, batch_size):
        plain = np.where(np.arange(len(requests)) < 8, 1.0, -1.0) + 0.01 * np.arange(len(requests))
        moves = [0.0] if len(cells) == 1 else [-1.5, 2.0, -2.0, -0.5, 0.25, 0.0]  # H's edits, then R's
        return plain + np.array(moves)[:, None]

    monkeypatch.setattr("safety_geometry.causal.reply_inversion.harm_scores", scores)
    texts = [f"request {i}" for i in range(8)]
    rows = inversion_rows(model, texts, texts, PAIR, 8, 0.6, draws=50, seed=1)
    assert [row.get("over_r_harmful") for row in rows] == pytest.approx([None, -1.0, 1.75, -2.0, None, None, None])
    assert [row.get("over_r_benign") for row in rows[1:4]] == pytest.approx([-1.0, 1.75, -2.0])


def test_numbers_of_an_edit():
    harmful, benign = np.array([2.0, -1.0, 3.0]), np.array([-2.0, 2.0])
    assert auroc(harmful, benign) == pytest.approx((0.5 + 1 + 0 + 1 + 1 + 1) / 6)
    assert accuracy(harmful, benign) == pytest.approx((2 / 3 + 1 / 2) / 2)
    row = describe(harmful, benign, {"harmful": harmful - 1, "benign": benign}, draws=200, seed=3)
    assert row["shift_harmful"] == row["shift_harmful_lo"] == row["shift_harmful_hi"] == 1.0
    assert row["shift_benign"] == 0.0 and row["n_harmful"] == 3
    assert row["auroc_lo"] <= row["auroc"] <= row["auroc_hi"]
    assert not at_chance(np.arange(1.0, 9), -np.arange(1.0, 9), 0.9, 100, 1)
    assert at_chance(np.arange(8.0), np.arange(8.0), 0.0, 100, 1)
