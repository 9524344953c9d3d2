"""Rulers against closed forms: counts of pairs, and naive Bayes worked out by hand."""

import math

import pytest

from safety_geometry.geometry.rulers import Classes, length_scores, words_scores


def length_auroc(fit, select, tokens) -> float:
    return select.auroc(length_scores(fit, select, tokens))


def words_auroc(fit, select) -> float:
    return select.auroc(words_scores(fit, select))


def letters(text: str) -> int:
    return len(text)


def test_length_counts_pairs_and_halves_ties():
    fit = Classes(["aaaa", "aaa"], ["a", "aa"])
    select = Classes(["aa", "aaaa"], ["aa", "a", "aaaaa"])
    assert length_auroc(fit, select, letters) == pytest.approx((0.5 + 1 + 0 + 1 + 1 + 0) / 6)


def test_the_fit_prompts_say_which_side_is_longer():
    fit, select = Classes(["a", "aa"], ["aaaa", "aaa"]), Classes(["a"], ["aa"])
    assert length_auroc(fit, select, letters) == 1.0
    assert length_auroc(fit, Classes(["aa"], ["a"]), letters) == 0.0


def test_words_are_naive_bayes_on_content_words():
    fit = Classes(["pick the lock", "pick a pocket"], ["bake a cake", "pick the apples"])
    # Harmful: pick twice, lock, pocket; benign: bake, cake, pick, apples. Six words in all.
    harmful, benign, known = 4, 4, 6

    def log_odds(in_harmful: int, in_benign: int) -> float:
        return math.log((in_harmful + 1) / (harmful + known)) - math.log((in_benign + 1) / (benign + known))

    pick, lock, bake = log_odds(2, 1), log_odds(1, 0), log_odds(0, 1)
    assert pick + lock > pick > 0 > pick + bake > bake
    # The orders of the sums: lock+pick > pick = "pick unknown" > pick+bake > bake.
    select = Classes(["pick that lock", "pick and bake"], ["pick xylophones", "bake"])
    assert words_auroc(fit, select) == pytest.approx((1 + 1 + 0 + 1) / 4)


def test_words_without_a_common_one_are_at_chance():
    fit, select = Classes(["alpha"], ["beta"]), Classes(["gamma", "delta"], ["epsilon"])
    assert words_auroc(fit, select) == 0.5


def test_punctuation_case_and_stop_words_do_not_count():
    fit = Classes(["Lock!"], ["Cake?"])
    assert words_auroc(fit, Classes(["the LOCK"], ["a cake."])) == 1.0
