"""Settings: one source of messages, page and schema; files that say what differs, merged as Snakemake merges them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import jsonschema
import pytest
import yaml
from pipeline.config_check import check, kind_at
from pipeline.config_file import (
    EMPTIED,
    NULLS,
    differences,
    lay_over,
    merged,
    read_config,
    read_layers,
    read_study,
    take_out,
    written,
)
from pipeline.strict_yaml import read_keys
from snakemake.utils import update_config

from safety_geometry.settings.kinds import Settings, fields, is_mapping, options
from safety_geometry.settings.page import page
from safety_geometry.settings.study import StudySettings

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "config.yaml"
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))


def leaves(model: type[Settings], place: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """(place, annotation) of every key; `*` for the names in a mapping of named entries."""
    for name, _, kind in fields(model):
        yield from _below((*place, name), kind)


def _below(place: tuple, kind: Any) -> Iterator[tuple[tuple, Any]]:
    yield place, kind
    for option in options(kind):
        if get_origin(option) is dict:
            yield from _below((*place, "*"), get_args(option)[1])
        elif is_mapping(option):
            yield from leaves(option, place)


def test_null_is_a_value_where_the_models_say_so():
    nullable = {
        place for place, kind in leaves(StudySettings)
        if type(None) in options(kind) or None in [value for option in options(kind) for value in get_args(option)]
    }  # fmt: skip
    assert nullable | {("model", "format")} == NULLS
    assert all(get_origin(options(kind_at(place))[0]) is dict for place in EMPTIED)


def test_every_key_is_described_and_the_page_is_current():
    text = page(read_keys(DEFAULT))
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == text, (
        "PYTHONPATH=src python -m safety_geometry.settings.page --keys config.yaml > docs/configuration.md"
    )
    for place, _ in leaves(StudySettings):
        assert f"`{'.'.join(place).replace('*', 'NAME')}`" in text or "*" in place[-1:], place


def test_the_schema_is_printed():
    command = [sys.executable, "-m", "safety_geometry.settings.page", "--schema"]
    done = subprocess.run(command, cwd=ROOT / "src", capture_output=True, text=True, check=True)
    schema = json.loads(done.stdout)
    assert set(schema["required"]) < set(schema["properties"]) and schema["additionalProperties"] is False
    assert schema["$defs"]["Sweep"]["properties"]["modes"]["uniqueItems"] is True
    assert (ROOT / "workflow/schemas/config.schema.json").read_text(encoding="utf-8") == done.stdout, (
        "PYTHONPATH=src python -m safety_geometry.settings.page --schema > workflow/schemas/config.schema.json"
    )


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_the_schema_takes_what_is_shipped_and_nothing_misspelt(file):
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()))
    config = json.loads(json.dumps(read_config(file)))  # JSON has no keys that are numbers
    assert [error.json_path for error in validator.iter_errors(config)] == []
    config["model"]["dtipe"] = config["model"].pop("dtype")
    assert {error.json_path for error in validator.iter_errors(config)} == {"$.model"}


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_files_are_merged_as_snakemake_merges_them(file):
    default, keys, last = read_keys(DEFAULT), read_keys(file), {"seeds": [7], "sweep": {"primary": []}}
    snakes, over = read_keys(DEFAULT), {}
    for layer in (keys, last):
        update_config(over, layer)
    update_config(snakes, over)
    take_out(snakes)
    ours = merged({"config.yaml": default, str(file): keys, "--config": last})
    assert json.dumps(ours) == json.dumps(snakes)  # in the same order
    assert default == read_keys(DEFAULT) and keys == read_keys(file)  # which are left alone


# Of those that share little with the default study: sizes of their own, or models, judges and sweeps of public trajectories.
MOST_LINES = {
    "smoke": 100,
    "aligned": 100,
    "rehearsal": 130,
    **dict.fromkeys(("tulu", "zephyr", "olmo", "smollm3"), 100),
}


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_a_file_states_what_differs(file):
    config = read_config(file)
    keys = read_keys(file)
    assert read_config_of(written(config)) == config
    if file.stem != "paper":  # which states the papers' values also where they are the same
        assert len(file.read_text().splitlines()) < MOST_LINES.get(file.stem, 60)
        assert not list(repeated(read_keys(DEFAULT), keys))


def read_config_of(text: str) -> dict:
    return merged({"config.yaml": read_keys(DEFAULT), "text": yaml.safe_load(text)})


def repeated(default: dict, keys: dict, above: str = "") -> Iterator[str]:
    for name, value in keys.items():
        if isinstance(value, dict) and isinstance(default.get(name), dict):
            yield from repeated(default[name], value, f"{above}{name}.")
        elif name in default and default[name] == value and value is not None:
            yield f"{above}{name}"


def test_a_study_of_a_few_lines(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("study: mine\nregimes: {sft: {reference: 10, saves: [10, 30]}}\nrefusal: {kl_max: 0.2}\nprompts: {roles: {clean_matched: null}}\n"
                    "clean_rows: {roles: [clean]}\n")  # fmt: skip
    config, default = read_study(file).config, read_keys(DEFAULT)
    assert config["refusal"] == default["refusal"] | {"kl_max": 0.2}
    assert config["regimes"]["sft"] == default["regimes"]["sft"] | {"reference": 10, "saves": [10, 30]}
    assert list(config["prompts"]["roles"]) == [role for role in default["prompts"]["roles"] if role != "clean_matched"]
    assert yaml.safe_load(written(config)) == yaml.safe_load(file.read_text())


def test_null_takes_away_and_keeps_what_is_a_value():
    base = {
        "regimes": {"a": {"kind": "sft"}},
        "judges": {"labelled": {"folds": 2}},
        "completions": {"every_save": {}},
        "train": {"rows": 4},
    }
    over = {
        "regimes": None,
        "judges": {"labelled": None},
        "completions": {"every_save": {"direct": None}},
        "train": None,
    }
    config = merged({"base": base, "over": over})
    assert config == {"regimes": {}, "judges": {"labelled": None}, "completions": {"every_save": {"direct": None}}}
    assert lay_over({"a": None}, {"a": {"b": 1}}) == {"a": {"b": 1}} and differences({"a": 1, "b": 2}, {"b": 2}) == {
        "a": None
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study: x\nrefusal: {kl_max: -1}\n", r"refusal\.kl_max = -1: has to be at least 0 \(.*mine\.yaml\)$"),
        ("study: x\ntrain: {saves: [5]}\n", r"= \d+: this step is never saved; .* \(config\.yaml\)$"),
        ("study: x\nsweep: {primary: [{regime: sft}]}\n", r"sweep\.primary\[0\]\.family is missing: add it.*\(.*mine\.yaml\)"),
        ("study: x\nregime: {}\n", r"regime = \{\}: there is no such key; did you mean regimes\? \(.*mine\.yaml\)$"),
        ("study: x\nregimes: {}\n", r"regimes = \{\}: adds nothing .* write null .*\(.*mine\.yaml\)"),
        ("refusal: {kl_max: 0.2}\n", r"mine\.yaml has no name for its study"),
    ],
)  # fmt: skip
def test_messages_name_the_file_of_a_key(text, said, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit, match=said):
        read_study(file)


def test_a_whole_file_works_where_nothing_would_be_added_and_is_told_where_something_would(tmp_path):
    whole = read_config(ROOT / "configs/full.yaml")
    file = tmp_path / "whole.yaml"
    file.write_text(yaml.safe_dump(whole, sort_keys=False))
    assert read_study(file).config == whole
    del whole["prompts"]["sets"]["chat"]["label"]
    check(whole)  # fine by itself
    file.write_text(yaml.safe_dump(whole, sort_keys=False))
    with pytest.raises(
        SystemExit, match=r"is whole, .* add prompts\.sets\.chat\.label to it; .*--differences.*docs/moving\.md"
    ):
        read_study(file)


def test_layers_of_several_files(tmp_path):
    for name, text in (("a.yaml", "study: a\nseeds: [1]\n"), ("b.yaml", "seeds: [2]\n")):
        (tmp_path / name).write_text(text)
    layers = read_layers([DEFAULT, tmp_path / "a.yaml", tmp_path / "b.yaml"], {"study": "c"})
    assert len(layers) == 4 and (merged(layers)["study"], merged(layers)["seeds"]) == ("c", [2])


@pytest.mark.parametrize("name", ["README.md", "docs/howto.md"])
def test_the_study_that_a_page_shows_is_one(name, tmp_path):
    page_text = (ROOT / name).read_text(encoding="utf-8")
    example = page_text[page_text.index("```yaml\nstudy: my-study\n") :].removeprefix("```yaml\n").partition("```")[0]
    (tmp_path / "mine.yaml").write_text(example)
    assert read_study(tmp_path / "mine.yaml").config["study"] == "my-study"


def test_the_recipes_of_the_readme(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    whole = [block for block in blocks if block.startswith("study:")]
    (sources,) = (block for block in blocks if block not in whole)
    assert len(whole) == 2
    copied = (
        (ROOT / "configs" / "checkpoints.yaml").read_text(encoding="utf-8").replace("study: checkpoints", "study: mine")
    )
    copied = yaml.safe_load(copied)
    mine = yaml.safe_load(sources)["sources"]
    assert set(mine) == set(copied["sources"]) - {"smollm2"}, "its three, by name"
    copied["sources"] |= mine
    for number, block in enumerate([*whole, yaml.safe_dump(copied, sort_keys=False)]):
        (tmp_path / f"{number}.yaml").write_text(block)
        assert read_study(tmp_path / f"{number}.yaml").config["study"].startswith("m")
