"""The transfer tables: which answer belongs to which attack, and whether an attack worked on its own source."""

import pandas as pd
import pytest

from safety_geometry.attacks.transfer import judged_attacks, with_success
from safety_geometry.settings.attack_arm import AttackArm, Place

SOURCE = (4, "sft_refusal", 30)


def judged():
    rows = [
        ("gcg@sft_refusal:30", "a", True), ("gcg_init@sft_refusal:30", "a", False), ("gcg@sft_refusal:30", "b", False),
        ("gcg@r2d2:5", "a", False), ("gcg@r2d2:5", "b", True), ("autodan@sft_refusal:30", "a", True),
        ("seeds@sft_refusal:30", "a", True),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "prompt_id", "attack_success"]).assign(success_means="not_refused")


def test_answers_know_attack_source_and_target():
    found = judged_attacks(judged(), *SOURCE)
    assert found["attack"].tolist()[:4] == ["gcg", "gcg_init", "gcg", "gcg"]
    assert found[["target_regime", "target_step"]].iloc[3].tolist() == ["r2d2", 5]
    assert set(found["source_regime"]) == {"sft_refusal"} and set(found["source_step"]) == {30}
    assert found["success"].tolist() == judged()["attack_success"].tolist()


def test_success_is_that_on_the_attacks_own_source():
    attacks = pd.DataFrame(
        [(4, "gcg", "a"), (4, "gcg", "b"), (4, "autodan", "a"), (4, "autodan", "b")],
        columns=["seed", "attack", "behaviour"],
    ).assign(source="sft_refusal:30")
    found = with_success(attacks, judged_attacks(judged(), *SOURCE))
    assert found["success"].tolist() == [
        True,
        False,
        True,
        pd.NA,
    ]  # b succeeds on r2d2:5 only; AutoDAN's b was not asked
    assert found["success_start"].tolist() == [False, pd.NA, True, pd.NA]


@pytest.mark.parametrize("text", ["gcg@r2d2:30", "gcg_init@sft_refusal:0"])
def test_an_arm_has_one_text(text):
    arm = AttackArm.parse(text)
    assert arm.text == text and AttackArm(arm.method, Place(arm.target.regime, arm.target.step)) == arm


@pytest.mark.parametrize("text", ["", "gcg", "gcg@r2d2", "gcg@:30", "@r2d2:30", "gcg@r2d2:x", "gcg@r2d2:-1"])
def test_what_is_no_arm(text):
    with pytest.raises(ValueError, match="it is written"):
        AttackArm.parse(text)
