"""Trajectories that are one pattern: what they stand for, and every way to write one that stands for nothing."""

import copy

import check
import pytest
from pipeline import ROOT
from pipeline.config_check import ConfigError
from pipeline.config_file import checked_study, read_config

HUB = {"kind": "hub", "repo": "me/run", "revision": "step{step}"}


@pytest.fixture(scope="module")
def smoke() -> dict:
    return read_config(ROOT / "configs/smoke.yaml")


def study(smoke: dict, trajectory: dict, **changes):
    config = copy.deepcopy(smoke) | changes
    return checked_study(config | {"checkpoints": {"mine": {"reference": 1, "anchors": []} | trajectory}})


@pytest.mark.parametrize(
    ("source", "steps", "made"),
    [
        (HUB, [1, 30], {1: {"revision": "step1"}, 30: {"revision": "step30"}}),
        (HUB | {"revision": "main", "subfolder": "step-{step:04d}"}, [1, 20], {1: {"subfolder": "step-0001"}, 20: {"subfolder": "step-0020"}}),
        (HUB | {"revision": "main", "repo": "me/run-{step}"}, [1, 2], {1: {"repo": "me/run-1"}, 2: {"repo": "me/run-2"}}),
        (HUB | {"revision": "it-{step}"}, ["SFT", "APO"], {1: {"revision": "it-SFT"}, 2: {"revision": "it-APO"}}),
        (HUB | {"revision": "main", "repo": "{step}"}, ["a/base", "b/sft"], {1: {"repo": "a/base"}, 2: {"repo": "b/sft"}}),
        (HUB | {"revision": "{step}", "subfolder": "c-{step}"}, [5, 1], {1: {"subfolder": "c-1"}, 5: {"revision": "5", "subfolder": "c-5"}}),
        ({"kind": "path", "path": "/runs/checkpoint-{step}", "link": True}, [1, 2], {2: {"path": "/runs/checkpoint-2"}}),
    ],
    ids=["revision", "subfolder", "repo", "names", "repositories", "both", "path"],
)  # fmt: skip
def test_a_pattern_is_a_source_for_each_step(smoke, source, steps, made):
    found = study(smoke, {"source": source, "steps": steps})
    assert found.steps("mine") == sorted(found.brought["mine"]["steps"])
    for step, values in made.items():
        entry = found.brought["mine"]["steps"][step]
        assert entry == {"source": f"mine_step{step}", "format": "folder"}
        assert values.items() <= found.config["sources"][entry["source"]].items()
        assert found.source_keys[entry["source"]] == "checkpoints.mine.source"
    assert len(found.source_keys) == len(steps)
    assert {s.get("only") for n, s in found.config["sources"].items() if n in found.source_keys} == (
        {"model"} if source["kind"] == "hub" else {None}
    )


def test_the_same_study_written_out_has_the_same_sources(smoke):
    """Everything behind the configuration sees sources and steps only."""
    by_pattern = study(smoke, {"source": HUB, "steps": [1, 3]})
    sources = {f"mine_step{n}": HUB | {"revision": f"step{n}", "only": "model"} for n in (1, 3)}
    steps = {n: {"source": f"mine_step{n}", "format": "folder"} for n in (1, 3)}
    written = study(smoke, {"steps": steps}, sources=smoke["sources"] | sources)
    assert by_pattern.config == written.config and not written.source_keys
    assert checked_study(by_pattern.config).config == by_pattern.config  # what `--merged` prints can be read again


FAULTS = [
    # source, rest of the trajectory, key = value, what to do
    (HUB | {"revision": "main"}, {}, "checkpoints.mine.source.repo = 'me/run'", "no {step} in repo or revision, so that all steps would be the same"),
    ({"kind": "path", "path": "/x"}, {}, "checkpoints.mine.source.path = '/x'", "no {step} in path"),
    (HUB, {"steps": [1, 2, 1]}, "checkpoints.mine.steps = [1, 2, 1]", "lists something twice"),
    (HUB, {"steps": ["a", "b", "a"]}, "checkpoints.mine.steps = ['a', 'b', 'a']", "lists something twice"),
    (HUB, {"steps": [1, "b"]}, "checkpoints.mine.steps = [1, 'b']", "has numbers and names"),
    (HUB, {"steps": []}, "checkpoints.mine.steps = []", "must not be empty"),
    (HUB, {"steps": {1: {"source": "x", "format": "folder"}}}, "checkpoints.mine.source = 'hub'", "goes with a list of steps"),
    (HUB | {"revision": "step{stpe}"}, {}, "checkpoints.mine.source.revision = 'step{stpe}'", "{step} alone may stand in braces"),
    (HUB | {"revision": "step{step:x}"}, {}, "checkpoints.mine.source.revision = 'step{step:x}'", "{step:04d}"),
    (HUB | {"revision": "step{step.real}"}, {}, "checkpoints.mine.source.revision", "{step} alone"),
    (HUB | {"revision": "step{step"}, {}, "checkpoints.mine.source.revision", "a brace without its fellow"),
    (HUB | {"revision": "step{step:04d}"}, {"steps": ["a"]}, "checkpoints.mine.source.revision = 'step{step:04d}'", "a name takes no width"),
    (HUB, {"steps": ["a b"]}, "checkpoints.mine.source.revision = 'step{step}'", "step 1 makes 'stepa b' of it"),
    (HUB | {"revision": "main", "subfolder": "../{step}"}, {}, "checkpoints.mine.source.subfolder = '../{step}'", "a folder within the repository"),
    (HUB | {"revison": "x"}, {}, "checkpoints.mine.source.revison = 'x'", "did you mean revision?"),
    ({"kind": "hub", "repo": "me/{step}"}, {}, "checkpoints.mine.source.revision is missing", "add it"),
    (HUB, {"format": "gguf"}, "checkpoints.mine.source.members is missing", "add it"),
    (HUB, {"reference": 3}, "checkpoints.mine.reference = 3", "add it to checkpoints.mine.steps (now [1, 2])"),
    (HUB, {"keep": "some"}, "checkpoints.mine.keep = 'some'", "has to be one of all, none"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "rest", "shown", "fix"), FAULTS, ids=[f"{f[2]}: {f[3]}" for f in FAULTS])
def test_a_pattern_that_stands_for_nothing_is_refused(smoke, source, rest, shown, fix):
    with pytest.raises(ConfigError) as refused:
        study(smoke, {"source": source, "steps": [1, 2]} | rest)
    assert str(refused.value).startswith(f"config error: {shown}") and fix in str(refused.value), refused.value


def test_a_list_without_a_pattern_and_a_source_of_a_made_name_are_refused(smoke):
    with pytest.raises(ConfigError, match=r"checkpoints\.mine\.steps = \[1, 2\]: a list goes with source"):
        study(smoke, {"steps": [1, 2]})
    taken = smoke["sources"] | {"mine_step2": {"kind": "path", "path": "/x"}}
    with pytest.raises(ConfigError, match=r"sources = 'mine_step2': a step of checkpoints\.mine, .* is called so"):
        study(smoke, {"source": HUB, "steps": [1, 2]}, sources=taken)


# ----------------------------------------------------------------------------------------------- what is on the disk


def test_steps_that_pass_are_fetched_when_those_before_them_have_been_read(smoke):
    found = study(smoke, {"source": HUB, "steps": [1, 2, 3, 4, 5], "keep": "none"})
    layout = found.layout
    assert list(found.passing_sources) == [f"mine_step{n}" for n in range(2, 6)]  # the first one stays
    assert layout.passing() == [f"results/smoke/models/mine/step{n}" for n in range(2, 6)]
    assert [layout.read_before(f"mine_step{n}") for n in (2, 3, 4)] == [
        [], [], [layout.activations("mine", 1).replace("{seed}", "1")]
    ]  # fmt: skip
    gone = {str(path) for path in check.passing(found)}  # which `make check` does not miss
    assert gone == {*layout.passing(), *map(layout.source, found.passing_sources)}
    assert found.waits("mine", 1)  # the reference is an anchor, which is asked attacks
    read = layout.read_before("mine_step5")
    assert read[0] == layout.activations("mine", 2).replace("{seed}", "1")
    assert all(file in (read[0], layout.completions("mine", 2).replace("{seed}", "1")) for file in read)
    assert not study(smoke, {"source": HUB, "steps": [1, 2]}).passing_sources


def test_the_plan_says_how_much_is_on_the_disk_at_a_time(smoke):
    from pipeline.costs.facts import Facts
    from pipeline.costs.rates import read_rates
    from pipeline.identity import Job
    from pipeline.stages.sources import fetching, passing_peak

    shape = {"layers": 2, "hidden": 64, "intermediate": 128, "heads": 4, "vocabulary": 1000}

    def facts(**more):
        given = {"source": HUB, "steps": list(range(1, 44)), "shape": shape} | more
        return Facts(study(smoke, given), read_rates("cpu", ROOT))

    passing, staying = facts(keep="none"), facts()
    one = 2.0 * passing.shape("mine").parameters / 1e6
    assert passing_peak(passing) == (
        pytest.approx(3 * one),
        3,
        42,
    )  # the one that is read, and two ahead; the first stays anyway
    assert passing_peak(staying) == (0.0, 0, 0)
    job = Job.of({"name": "mine_step7"})
    need, other = fetching(passing, job), fetching(staying, job)
    assert (need.disk, need.passing) == (0.0, pytest.approx(one)) and (other.disk, other.passing) == (
        pytest.approx(one),
        0.0,
    )
    assert passing_peak(facts(keep="none", steps=[1, 2]))[1:] == (1, 1)
    assert passing_peak(facts(keep="none", anchors=[20, 40]))[1:] == (5, 42)  # anchors are asked attacks at the end
