"""What the configuration means: settings that must not change with what they do not depend on."""

from pathlib import Path

import pytest
import yaml
from pipeline.identity import Job
from pipeline.stages import attacks, sources
from pipeline.stages.training import segment
from pipeline.study import Study

from safety_geometry.prompts.sets import read_source

ROOT = Path(__file__).parents[2]


def study(**pool) -> Study:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["pool"]["gcg"] |= pool
    return Study(config)


def training(of: Study, regime: str) -> dict:
    first = of.segments(regime)[0]
    return segment(of, Job(42, regime, group=first))


def test_frozen_suffixes_depend_on_their_start_and_not_on_how_they_would_be_searched():
    for change, same in (({"width": 6}, True), ({"steps": 9}, True), ({"suffix_length": 5}, False)):
        assert (training(study(), "sft_refusal") == training(study(**change), "sft_refusal")) is same
        assert training(study(), "r2d2") != training(study(**change), "r2d2")
        assert training(study(), "sft") == training(study(**change), "sft")


def test_the_fixed_source_is_attacked_with_all_behaviours_and_the_others_with_the_first():
    found = study()
    assert found.attack_sources[0] == found.fixed_source
    assert attacks.gcg(found, Job(42, *found.fixed_source))["behaviours"] == found.config["attacks"]["behaviours"]
    for source in found.attack_sources[1:]:
        assert attacks.gcg(found, Job(42, *source))["behaviours"] == found.config["transfer"]["behaviours"]
        assert found.attack_targets(*source)[0] == source


def test_a_set_is_read_from_all_its_own_files(tmp_path):
    """From the settings and inputs of the rule to the rows, as the script takes them."""
    of = study()
    files = {name: tmp_path / f"{name}.jsonl" for name in ("a", "b", "c")}
    for name, file in files.items():
        file.write_text(f'{{"prompt": "Bake bread number {name}"}}\n')
    own = {"source": None, "format": "jsonl", "label": "harmful"}
    of.config["prompts"]["sets"] |= {
        "two": own | {"files": [str(files["b"]), str(files["a"])]}, "one": own | {"files": [str(files["c"])]},
    }  # fmt: skip
    inputs, spec = [Path(p) for p in of.prompt_sources()], sources.prompt_sets(of, Job())["sources"]
    assert set(files.values()) < set(inputs)
    prompts = {name: [row["prompt"][-1] for row in read_source(name, inputs, spec[name], 0)] for name in ("two", "one")}
    assert prompts == {"two": ["b", "a"], "one": ["c"]}


@pytest.mark.parametrize(
    ("saves", "added", "stay", "new"),
    [
        # a last save that is a multiple of the segment's length: what is there stays
        ([5, 30], [60], [(0, 15), (15, 30)], [(30, 45), (45, 60)]),
        ([5, 30], [40], [(0, 15), (15, 30)], [(30, 40)]),
        # one that is not: its last segment is trained again, as part of a longer one
        ([5, 40], [60], [(0, 15), (15, 30)], [(30, 45), (45, 60)]),
        ([5, 10], [15], [], [(0, 15)]),
        # between saves: the segment that has it
        ([5, 30], [20], [(0, 15)], [(15, 30)]),
    ],
)
def test_the_segments_that_stay_when_a_save_is_added(saves, added, stay, new):
    def segments(steps: list[int]) -> set:
        of = study()
        of.config["train"] |= {"saves": steps, "segment_length": 15}
        return set(of.segments("r2d2"))

    before, after = segments(saves), segments([*saves, *added])
    assert sorted((s.start, s.stop) for s in before & after) == stay
    assert sorted((s.start, s.stop) for s in after - before) == new
