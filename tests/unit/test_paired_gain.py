"""The gain that R's choice has lost between two checkpoints: paired by prompt, whatever order each was asked in."""

from dataclasses import replace

import numpy as np
import pytest
from test_selection import GOOD, RULE, made_up, with_effects

from safety_geometry.artefacts.candidate_scores import RefusalScores
from safety_geometry.geometry.paired_gain import Scored, fall
from safety_geometry.geometry.selection import choice, held_out

SCREEN = 2


def scored(finals, selector="effect", order=None):
    """order: where each benign prompt stands in the role."""
    scores = RefusalScores(finals, finals, SCREEN, np.ones(len(finals.layers)), GOOD, None, order)
    found = choice(finals, SCREEN, selector, RULE, GOOD, None, np.random.default_rng(0), 20)
    return Scored(scores, found)


def reordered(finals, order):
    """The same scores with the benign prompts in another order."""
    sides = {name: getattr(finals, name)[:, order] for name in ("add_benign", "kl", "added")}
    sides |= {name: getattr(finals, name)[order] for name in ("clean_benign", "log_odds_benign", "answered")}
    return replace(finals, **sides)


@pytest.mark.parametrize("selector", ["effect", "cosmic"])
def test_it_is_the_difference_of_the_held_out_gains(selector):
    first, later = made_up(1), made_up(2)
    order = np.random.default_rng(4).permutation(len(first.clean_benign))
    moved = reordered(later, order)
    found = fall(scored(first, selector), scored(moved, selector, order), RULE, 50, np.random.default_rng(1))
    gains = [held_out(finals, SCREEN, selector, RULE).gain for finals in (first, moved)]
    assert found.value == pytest.approx(gains[0] - gains[1])
    assert found.lo <= found.hi and found.n == len(first.clean_harmful) - SCREEN


def test_prompts_that_differ_much_do_not_blur_a_fall_that_all_of_them_share():
    """Each prompt's effect is .3 smaller later: every resample has the same fall, though the gains themselves vary."""
    effects = 3.0 + 2.0 * np.random.default_rng(0).standard_normal((1, 20))
    first, later = with_effects(effects), with_effects(effects - 0.3)
    one, other = scored(first), scored(later)
    found = fall(one, other, RULE, 400, np.random.default_rng(2))
    assert (found.value, found.lo, found.hi) == pytest.approx((0.3, 0.3, 0.3))
    own = held_out(first, SCREEN, "effect", RULE, 400, np.random.default_rng(3))
    assert own.hi - own.lo > 0.4
    nothing = fall(one, one, RULE, 50, np.random.default_rng(2))
    assert (nothing.value, nothing.lo, nothing.hi) == (0, 0, 0)


def test_benign_prompts_are_paired_by_their_place_in_the_role():
    """Told the order, the same checkpoint has lost nothing; told a wrong one, it seems to vary."""
    finals = made_up(3, count=1, n=20, m=20)
    finals = replace(finals, added=100 + 20 * finals.added, kl=finals.kl * 0)
    order = np.r_[[0, 1], np.random.default_rng(5).permutation(np.arange(2, 20))]
    moved = reordered(finals, order)
    told, untold = (
        fall(scored(finals), scored(moved, order=known), RULE, 400, np.random.default_rng(6)) for known in (order, None)
    )
    assert told.value == pytest.approx(0) and told.hi - told.lo < 0.6 * (untold.hi - untold.lo)


def test_too_few_prompts_have_no_interval_and_other_numbers_are_refused():
    few = made_up(1, n=4, m=4)
    found = fall(scored(few), scored(few), RULE, 200, np.random.default_rng(1))
    assert found.value == 0 and np.isnan(found.lo) == (found.hi != found.hi)
    with pytest.raises(ValueError, match="differ in number"):
        fall(scored(few), scored(made_up(1)), RULE, 20, np.random.default_rng(1))


def test_a_role_may_hold_more_benign_prompts_than_count():
    """Two checkpoints that answer different ones: the gains are those of each alone."""
    first, later = made_up(1), made_up(2)
    some, others = np.arange(12), np.r_[[0, 1], np.arange(14, 24)]
    found = fall(scored(first, order=some), scored(later, order=others), RULE, 50, np.random.default_rng(1))
    gains = [held_out(finals, SCREEN, "effect", RULE).gain for finals in (first, later)]
    assert found.value == pytest.approx(gains[0] - gains[1]) and found.lo <= found.hi


def test_an_order_has_every_prompt_once():
    finals = made_up(1)
    with pytest.raises(ValueError, match="benign_order is no order of 12 prompts"):
        RefusalScores(finals, finals, 2, np.ones(4), GOOD, None, np.zeros(12, int))
