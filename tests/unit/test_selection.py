"""The choice of R: closed forms of its gains, folds and null, and a planted direction that it has to find."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import POSITIONS, READS, REFUSAL, chosen_from, planted_model, prompts

from safety_geometry.artefacts.candidate_scores import (
    SELECTORS,
    CandidateScores,
    Openings,
    read_scores,
    write_scores,
)
from safety_geometry.geometry import refusal_scores as stages
from safety_geometry.geometry.candidate_scores import Candidate, Scorer
from safety_geometry.geometry.selection import (
    NOTHING,
    Rule,
    Weights,
    candidate_frame,
    choice,
    choose,
    finalists,
    gains,
    held_out,
    null_point,
    why_not,
)
from safety_geometry.models.runner import Runner

RULE = Rule("effect", kl_max=0.1, beta_kl=1.0, max_layer=9, min_gain={"effect": 0.5, "cosmic": 0.05})
GOOD = Openings(48, 20, 24, True, 3, 0.9, 0.8)


def made_up(seed: int = 0, count: int = 4, n: int = 10, m: int = 12, d: int = 5) -> CandidateScores:
    rng = np.random.default_rng(seed)
    return CandidateScores(
        layers=np.arange(count), positions=np.full(count, -1), norm=np.ones(count, np.float32),
        ablate_harmful=rng.normal(size=(count, n, d)), add_benign=rng.normal(size=(count, m, d)),
        kl=0.05 * rng.random((count, m)), clean_harmful=rng.normal(1, 1, size=(n, d)), clean_benign=rng.normal(size=(m, d)),
        n_layers=10, removed=rng.normal(size=(count, n)), added=rng.normal(size=(count, m)),
        log_odds_harmful=rng.normal(size=n), log_odds_benign=rng.normal(size=m), answered=np.arange(m) % 3 > 0,
    )  # fmt: skip


def with_effects(effects: np.ndarray) -> CandidateScores:
    """Scores whose effect at candidate c is effects[c, i] on prompt i of either class, [C, n]."""
    count, n = effects.shape
    return replace(
        made_up(1, count, n, n),
        removed=-effects,
        added=effects,
        log_odds_harmful=np.zeros(n),
        log_odds_benign=np.zeros(n),
    )


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


# ------------------------------------------------------------------------------------------------------ closed forms


def test_gains_are_those_of_the_definitions():
    s = made_up()
    found = gains(s, Weights.of(s), 1.0)
    c0 = cosine(s.clean_harmful.mean(0), s.clean_benign.mean(0))
    assert found.c0[0] == pytest.approx(c0)
    for c in range(4):
        less, more = (s.log_odds_harmful - s.removed[c]).mean(), (s.added[c] - s.log_odds_benign).mean()
        assert found.effect[0, c] == pytest.approx((less + more) / 2)
        kl = np.mean([value for value, answered in zip(s.kl[c], s.answered, strict=True) if answered])
        assert found.kl[0, c] == pytest.approx(kl)
        refuse = cosine(s.add_benign[c].mean(0), s.clean_harmful.mean(0))
        comply = cosine(s.ablate_harmful[c].mean(0), s.clean_benign.mean(0))
        assert found.cosmic[0, c] == pytest.approx((refuse + comply - 2 * c0) / (2 * (1 - c0)) - kl)


def test_doing_nothing_gains_nothing():
    s = made_up(2, 2)
    idle = replace(
        s, ablate_harmful=np.stack([s.clean_harmful] * 2), add_benign=np.stack([s.clean_benign] * 2), kl=np.zeros_like(s.kl),
        removed=np.stack([s.log_odds_harmful] * 2), added=np.stack([s.log_odds_benign] * 2),
    )  # fmt: skip
    found = gains(idle, Weights.resampled(idle, 20, np.random.default_rng(0)), 1.0)
    for name in SELECTORS:
        np.testing.assert_allclose(found.of(name), 0, atol=1e-12)
    swapped = replace(idle, ablate_harmful=np.stack([s.clean_benign[:10]] * 2), clean_benign=s.clean_benign)
    swapped = replace(swapped, add_benign=np.stack([np.tile(s.clean_harmful.mean(0), (12, 1))] * 2),
                      ablate_harmful=np.stack([np.tile(s.clean_benign.mean(0), (10, 1))] * 2))  # fmt: skip
    np.testing.assert_allclose(gains(swapped, Weights.of(swapped), 1.0).cosmic, 1)  # the other class's mean


def test_kl_of_a_part_without_an_answered_prompt_is_that_of_all():
    s = replace(made_up(), answered=np.arange(12) < 2)
    part = gains(s, Weights.of(s, None, [5, 6]), 1.0)
    np.testing.assert_allclose(part.kl[0], s.kl[:, :2].mean(1))


def test_choice_prefers_gain_then_kl_then_layer_and_may_be_nothing():
    layers = np.array([3, 2, 1])
    allowed = np.ones((1, 3), bool)
    assert choose(np.array([[1.0, 2, 0]]), np.zeros((1, 3)), layers, allowed) == [1]
    assert choose(np.array([[2.0, 2, 0]]), np.array([[0.1, 0.2, 0]]), layers, allowed) == [0]
    assert choose(np.array([[2.0, 2, 2]]), np.zeros((1, 3)), layers, allowed) == [2]
    assert choose(np.array([[2.0, 1, 0]]), np.zeros((1, 3)), layers, np.array([[False, True, True]])) == [1]
    assert choose(np.array([[-1.0, 0, np.nan]]), np.zeros((1, 3)), layers, allowed) == [NOTHING]
    assert choose(np.ones((1, 3)), np.zeros((1, 3)), layers, ~allowed) == [NOTHING]


def test_held_out_gain_is_measured_where_nothing_was_chosen():
    """Two prompts of a screen, then parts 2, 4, 6 and 3, 5, 7. Candidate 0 is best on the first part, 1 on the other."""
    effects = np.zeros((2, 8))
    effects[0, [2, 4, 6]], effects[0, [3, 5, 7]] = 3.0, 1.0
    effects[1, [2, 4, 6]], effects[1, [3, 5, 7]] = 0.5, 2.0
    found = held_out(with_effects(effects), 2, "effect", RULE)
    assert found.chosen == (1, 0)  # measured on the first part: chosen on the screen and the second
    assert found.gain == pytest.approx((0.5 + 1.0) / 2)
    effects[0, [3, 5, 7]] = effects[1] = -1.0
    found = held_out(with_effects(effects), 2, "effect", RULE)
    assert found.chosen == (NOTHING, 0) and found.gain == pytest.approx((0 - 1.0) / 2)


def test_interval_of_a_held_out_gain_is_that_of_the_mean_of_its_prompts():
    rng = np.random.default_rng(3)
    effects = rng.normal(2.0, 1.0, size=(1, 204))
    found = held_out(with_effects(effects), 4, "effect", RULE, 4000, np.random.default_rng(4))
    error = effects[0, 4:].std() / math.sqrt(200) / math.sqrt(2)  # both classes are resampled, apart
    assert found.gain == pytest.approx(effects[0, 4:].mean())
    assert (found.hi - found.lo) / 2 == pytest.approx(1.96 * error, rel=0.1)
    with pytest.raises(ValueError, match="two prompts of each class"):
        held_out(with_effects(np.ones((1, 5))), 4, "effect", RULE)


def test_null_point_is_exceeded_by_one_more_in_at_most_a_twentieth():
    assert null_point([3.0, *range(19)][:20]) == 18  # of 20 sets the largest
    assert null_point(np.arange(39.0)) == 37 and null_point(np.arange(99.0)) == 94  # the 38th of 39, the 95th of 99
    assert null_point([1.0, 2.0]) == 2 and math.isnan(null_point([])) and math.isnan(null_point(None))
    rng = np.random.default_rng(5)
    draws = rng.normal(size=(20000, 40))
    exceeded = np.mean([row[0] > null_point(row[1:]) for row in draws])
    assert exceeded == pytest.approx(2 / 40, abs=0.006)


def test_finalists_are_taken_from_both_orders_in_turn():
    effects = np.array([[5.0], [4], [3], [2], [1]]) * np.ones((5, 6))
    s = with_effects(effects)
    order = [int(i) for i in np.argsort(-gains(s, Weights.of(s), 1.0).cosmic[0])]
    wanted = list(dict.fromkeys(i for pair in zip(range(5), order, strict=True) for i in pair))
    assert finalists(s, RULE, 3) == sorted(wanted[:3]) and finalists(s, RULE, 99) == [0, 1, 2, 3, 4]
    costly = replace(s, kl=np.where(np.arange(5)[:, None] == 0, 1.0, s.kl))
    assert 0 not in finalists(costly, RULE, 4)  # beyond the KL budget
    assert finalists(s, replace(RULE, max_layer=2), 99) == [0, 1]


def test_ties_go_to_the_site_of_the_save_before():
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.5, (3, 24))
    noise -= noise.mean(1, keepdims=True)
    effects = rng.normal(2.0, 1, 24) + np.array([[0.02], [0.0], [-3.0]]) + noise
    s = with_effects(effects)
    best = int(effects[:2].mean(1).argmax())

    def site(before):
        found = choice(s, 4, "effect", RULE, GOOD, np.zeros(20), np.random.default_rng(0), 500, before)
        assert found.ties == 2
        return found.site

    assert site(None) == best and site((-1, 0)) == 0 and site((-1, 1)) == 1
    assert site((-1, 2)) == 1  # the nearest of the two; the third does too little


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"n_answered": 7}, "answers 7 of the benign"),
        ({"auroc": None, "n_refused": 0}, "refuses none of the 48"),
        ({"auroc": None, "n_refused": 48}, "refuses all of the 48"),
        ({"auroc": 0.69}, "AUROC of 0.69 only"),
    ],
)
def test_why_there_is_no_r(change, words):
    assert words in (why := why_not(replace(GOOD, **change), True, 1.0, 0.5, 0.4)) and bool(words) == bool(why)


def test_a_gain_has_to_pass_the_minimum_and_the_null():
    assert "below the minimum of 0.5" in why_not(GOOD, True, 0.4, 0.5, 0.1)
    assert "does not exceed the 95 % point" in why_not(GOOD, True, 0.8, 0.5, 0.8)
    assert "does not exceed" in why_not(GOOD, True, 0.8, 0.5, math.nan)  # no null, no R
    assert "more than nothing" in why_not(GOOD, False, 0.8, 0.5, 0.1)


def test_shuffled_labels_have_half_of_each_class():
    labels = np.arange(21) < 11
    rng = np.random.default_rng(7)
    drawn = np.stack([stages.shuffled_labels(labels, rng) for _ in range(400)])
    assert set(drawn[:, :11].sum(1)) == {5, 6} and set(drawn[:, 11:].sum(1)) == {5}
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.1)


def test_auroc_counts_pairs():
    values, positive = np.array([1.0, 2, 2, 3]), np.array([False, True, False, True])
    assert stages.auroc(values, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert stages.auroc(values, positive & False) is None


# -------------------------------------------------------------------------------------------------- what is scored


def test_null_directions_have_the_energy_of_the_candidate():
    model, _ = planted_model(2.0, 0)
    rng = np.random.default_rng(0)
    asked = [prompts(6, side, rng) for side in (True, False)]
    scorer = Scorer(Runner(model), *asked, [2, 4], [6], [REFUSAL])
    real = [Candidate(layer, -1, torch.randn(32, generator=torch.Generator().manual_seed(layer))) for layer in (2, 4)]
    settings = stages.SelectionSettings(RULE, 99, 2, 2, 1, 2, [], 1, False, 0)
    values = rng.normal(size=(8, 32))
    made = stages.null_set(0, real, lambda position, layer: values, np.arange(8) < 4, scorer, settings)
    for candidate, other in zip(real, made, strict=True):
        assert (candidate.layer, candidate.position) == (other.layer, other.position)
        assert float(other.vector.norm()) == pytest.approx(float(candidate.vector.norm()), rel=1e-5)
        spent = other.strength**2 * scorer.energy(other.layer, other.unit)
        assert other.strength <= stages.MATCHED_MAX
        if other.strength < stages.MATCHED_MAX:
            assert spent == pytest.approx(scorer.energy(candidate.layer, candidate.unit), rel=1e-4)


@pytest.mark.parametrize("removal", ["affine", "linear"])
def test_other_forms_of_removal_are_what_hooks_do(removal):
    """affine: a − u(uᵀa) + u(uᵀμ) at one layer; linear: a − u(uᵀa) at the input of every block."""
    model, direction = planted_model(2.0, 1)
    rng, layer, mean = np.random.default_rng(1), 4, torch.linspace(-1, 1, 32)
    harmful, benign = (prompts(3, side, rng) for side in (True, False))
    scorer = Scorer(
        Runner(model), harmful, benign, [layer], [6], [REFUSAL], removal=removal, benign_means={(layer, -1): mean}
    )
    found = scorer.score([Candidate(layer, -1, 3 * direction)])
    everywhere = scorer.kl_everywhere([Candidate(layer, -1, 3 * direction)], range(3))[0]

    def hook(kind):
        def change(module, args):
            x = args[0] - (args[0] @ direction)[..., None] * direction
            return (x + (mean @ direction) * direction if kind == "affine" else x, *args[1:])

        blocks = model.model.layers if kind == "linear" else [model.model.layers[layer]]
        return [block.register_forward_pre_hook(change) for block in blocks]

    def log_p(prompt):
        return model(torch.tensor([prompt.ids])).logits[0, -1].log_softmax(-1)

    clean = [log_p(prompt) for prompt in benign]
    hooks = hook(removal)
    for i, prompt in enumerate(harmful):
        p = log_p(prompt)[REFUSAL]
        assert found.removed[0, i] == pytest.approx(float(p - torch.log1p(-p.exp())), abs=1e-4)
    for each in hooks:
        each.remove()
    hooks = hook("linear")
    kl = [float((p.exp() * (p - log_p(prompt))).sum()) for p, prompt in zip(clean, benign, strict=True)]
    for each in hooks:
        each.remove()
    assert everywhere == pytest.approx(np.mean(kl), abs=1e-5)


def test_a_checkpoint_that_answers_no_benign_prompt_is_scored_and_has_no_r(tmp_path):
    """Right after over-refusal set in: the KL is that of all benign prompts, and the choice says why there is no R."""
    model, _ = planted_model(2.0, 0)
    rng = np.random.default_rng(0)
    asked = [prompts(6, side, rng) for side in (True, False)]
    scorer = Scorer(Runner(model), *asked, [2, 4], [6], [REFUSAL], answered=np.zeros(6, bool))
    settings = stages.SelectionSettings(RULE, 99, 2, 2, 1, 2, [], 1, True, 0)
    candidates = [Candidate(layer, -1, torch.randn(32)) for layer in (2, 4)]
    openings = Openings(12, 12, 0, True, 1, None, None)
    values = rng.normal(size=(8, 32))
    scores = stages.refusal_scores(
        scorer, candidates, lambda position, layer: values, np.arange(8) < 4, openings, settings
    )
    assert np.isfinite(scores.kl_everywhere).all() and scores.null is None
    found = choice(scores.finals, 2, "effect", RULE, openings, None, rng, 20)
    assert "answers 0 of the benign" in found.reason
    write_scores(tmp_path / "scores.safetensors", scores, 8)
    assert read_scores(tmp_path / "scores.safetensors").openings == openings


# ------------------------------------------------------------------------------------------------- a planted refusal


def chosen(strength: float, seed: int, selector: str, **options):
    planted = chosen_from(strength, seed, selector, **options)
    null = planted.scores.null
    gains_of_null = None if null is None else null.gains[selector]
    found = choice(
        planted.scores.finals, 4, selector, planted.rule, planted.openings, gains_of_null, np.random.default_rng(0), 100
    )
    carrier = planted.delta[POSITIONS.index(found.position), found.layer]
    return found, abs(cosine(carrier, planted.direction))


@pytest.mark.parametrize("strength", [1.5, 2.0, 2.5])
def test_effect_finds_the_planted_direction(strength):
    found, cos = chosen(strength, 1, "effect")
    assert found.reason == "" and abs(found.layer - READS) <= 1 and cos >= 0.95
    assert found.held_out.lo > found.null and found.share > 0.9


@pytest.mark.parametrize("strength", [1.5, 2.5])
def test_cosmic_finds_a_site_that_moves_the_means(strength):
    """Not the planted one: deeper, where the classes differ by more than refusal, removing the difference swaps more."""
    found, _ = chosen(strength, 1, "cosmic")
    assert found.reason == "" and found.layer >= READS and found.held_out.gain > 0.3


def test_effect_finds_no_direction_where_none_is_planted():
    """50 fixed seeds, without a minimum gain: what is left is the null's own 5 %. (`cosmic` finds far more: that the class
    means differ along a direction is all it asks.)"""
    finds = dict.fromkeys(SELECTORS, 0)
    for seed in range(100, 150):
        scores = chosen_from(0.0, seed, fit=16, select=10, min_gain=0.0)
        for name in SELECTORS:
            gain = held_out(scores.scores.finals, 4, name, scores.rule).gain
            finds[name] += gain > max(0.0, null_point(scores.scores.null.gains[name]))
    assert finds["effect"] <= 5


def test_a_finalist_stands_in_the_frame_as_all_prompts_have_it():
    planted = chosen_from(2.0, 0, fit=8, select=8, sets=0)
    frame = candidate_frame(planted.scores.screen, planted.scores.finals, 1.0)
    assert planted.scores.null is None and len(frame) == len(planted.scores.screen.layers)
    finals = frame[frame.finalist].set_index(["layer", "position"]).effect
    whole = gains(planted.scores.finals, Weights.of(planted.scores.finals), 1.0).effect[0]
    for c, (layer, position) in enumerate(
        zip(planted.scores.finals.layers, planted.scores.finals.positions, strict=True)
    ):
        assert finals[layer, position] == pytest.approx(whole[c])
