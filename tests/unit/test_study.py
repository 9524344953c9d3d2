"""What the configuration means: settings that must not change with what they do not depend on."""

from pathlib import Path

import yaml
from study import Study

ROOT = Path(__file__).parents[2]


def study(**pool) -> Study:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["pool"]["gcg"] |= pool
    return Study(config)


def training(of: Study, regime: str) -> dict:
    return of.training(of.segments(regime)[0], 42)


def test_frozen_suffixes_depend_on_their_start_and_not_on_how_they_would_be_searched():
    for change, same in (({"width": 6}, True), ({"steps": 9}, True), ({"suffix_length": 5}, False)):
        assert (training(study(), "sft_refusal") == training(study(**change), "sft_refusal")) is same
        assert training(study(), "r2d2") != training(study(**change), "r2d2")
        assert training(study(), "sft") == training(study(**change), "sft")


def test_the_fixed_source_is_attacked_with_all_behaviours_and_the_others_with_the_first():
    found = study()
    assert found.attack_sources[0] == found.fixed_source
    assert found.gcg_attacks(*found.fixed_source, 42)["behaviours"] == found.config["attacks"]["behaviours"]
    for source in found.attack_sources[1:]:
        assert found.gcg_attacks(*source, 42)["behaviours"] == found.config["transfer"]["behaviours"]
        assert found.attack_targets(*source)[0] == source
