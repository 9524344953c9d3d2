"""The configuration of a study: config.yaml, what the study's own file says otherwise, and what the command line does.

Files are merged as Snakemake does it: mappings key by key, anything else (lists too) replaced; `--config` comes last.
Besides, `null` takes a key away where null is no value of it: a source, a set, a role, a regime, an optional key.

PYTHONPATH=workflow python -m pipeline.config_file FILE                  says what is wrong with it, or nothing
PYTHONPATH=workflow python -m pipeline.config_file FILE --merged         prints the whole configuration that it stands
for PYTHONPATH=workflow python -m pipeline.config_file FILE --differences    what of a whole file differs from
config.yaml
"""

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from pipeline import ROOT
from pipeline.strict_yaml import read_keys
from pipeline.study import Study

DEFAULT = ROOT / "config.yaml"
MOVING = "docs/moving.md"
# Where null is a value: as the models in `settings` say (a test compares them), which jobs do without.
NULLS = frozenset(
    tuple(key.split(".")) for key in ( "model.source", "model.format", "model.system", "prompts.target_words",
    "prompts.sets.*.source", "pool.gcg.mellowmax", "pool.gcg.probe", "pool.gcg.lsgm", "attacks.gcg.mellowmax",
    "attacks.gcg.probe", "attacks.gcg.lsgm", "completions.every_save.*", "completions.sampled",
    "judges.labelled", "judges.labelled.refusal.source", "judges.labelled.harm.source",
    "judges.labelled.severity", "judges.labelled.severity.source",
    "judges.hand_labels", "judges.embeddings", "judges.refusal", "judges.harm", "judges.usefulness",
    "judges.models.*.base", "judges.models.*.template", "judges.models.*.contextual_template",
    "sweep.layer_scan", "sweep.reply_inversion", "sweep.directions", )
)  # fmt: skip

# Sections of named entries: null takes all of config.yaml's away.
EMPTIED = frozenset({
    ("sources",), ("regimes",), ("aligned", "anchors"), ("aligned", "models"), ("completions", "every_save"), ("judges",
    "models"), ("sweep", "checkpoints"), ("transfer", "sources"), ("transfer", "targets"),
})  # fmt: skip

ABSENT = object()
Layers = dict[str, Mapping]  # file, as it was given, or --config: its own keys


# -------------------------------------------------------------------------------------------------------------- merging


def read_layers(files: Sequence[Path], overlay: Mapping | None = None) -> Layers:
    """config.yaml, the files of a study and the keys of `--config`, each read strictly.

    Raises:
        SystemExit: there is no such file, it is no YAML or has a key twice; or no file has a name for the study.
    """
    read = {file: read_keys(file) for file in files}
    others = {_shown(file): keys for file, keys in read.items() if file.resolve() != DEFAULT}
    others |= {"--config": overlay} if overlay else {}
    if files and others and not any("study" in keys for keys in others.values()):
        raise SystemExit(
            f"config error: {_shown(files[-1])} has no name for its study, whose results would mix with those of"
            " config.yaml; add a line like `study: my-study`"
        )
    return {"config.yaml": read_keys(DEFAULT)} | others


def _shown(file: Path) -> str:
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative


def merged(layers: Layers) -> dict:
    """The whole configuration. As Snakemake does, what lies over config.yaml is put together first."""
    default, *others = layers.values()
    overlay: dict = {}
    for keys in others:
        overlay = lay_over(overlay, keys)
    config = lay_over(default, overlay)
    take_out(config)
    return config


def lay_over(below: object, above: Mapping) -> dict:
    """What `snakemake.utils.update_config` makes of two mappings, in new ones."""
    result = dict(below) if isinstance(below, Mapping) else {}
    for key, value in above.items():
        result[key] = lay_over(result.get(key), value) if isinstance(value, Mapping) else value
    return result


def take_out(config: dict, place: tuple = ()) -> None:
    """Remove, in place, the keys that are null where null is no value; a section of named entries is empty then."""
    for key, value in list(config.items()):
        inner = (*place, key)
        if value is None and inner in EMPTIED:
            config[key] = {}
        elif value is None and not _may_be_null(inner):
            del config[key]
        elif isinstance(value, dict):
            take_out(value, inner)


def _may_be_null(place: tuple) -> bool:
    return place in NULLS or (*place[:-1], "*") in NULLS or (*place[:-2], "*", place[-1]) in NULLS


def differences(base: Mapping, whole: Mapping) -> dict:
    """What has to be laid over `base` to give `whole`; null for what `whole` does not have."""
    changed: dict = {key: None for key in base if key not in whole}
    for key, value in whole.items():
        if key not in base or not isinstance(value, Mapping) or not isinstance(base[key], Mapping):
            changed |= {key: value} if key not in base or value != base[key] else {}
        elif inner := differences(base[key], value):
            changed[key] = inner
    return changed


def written(config: Mapping) -> str:
    """The text of a study's file that stands for a whole configuration."""
    keys = {"study": config.get("study")} | differences(read_keys(DEFAULT), config)
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)


# ------------------------------------------------------------------------------------------------------------- checking


def checked_study(config: Mapping, layers: Layers | None = None, together: bool = True) -> Study:
    """The study of a whole configuration.

    together: whether its settings have to go together, too. Raises SystemExit with key, value, file and fix where one
    does not fit.
    """
    # Not in jobs, whose configuration was checked at the start.
    from pipeline.combinations import check_combinations
    from pipeline.config_check import ConfigError, check

    layers = layers or {}
    default, *names = layers or [""]
    for name in names:
        _stop_if_whole(config, name, layers[name])
    try:
        for name in names:
            for place in EMPTIED:
                if standing_at(layers[name], place) == {} and standing_at(layers[default], place):
                    raise ConfigError(
                        ".".join(place),
                        {},
                        "adds nothing to the entries of config.yaml; write null to take all of them away",
                    )
        check(config)
        study = Study(config)
        if together:
            check_combinations(study)
    except ConfigError as error:
        raise _with_files(error, layers) from None
    return study


def _with_files(error: "ConfigError", layers: Layers) -> "ConfigError":  # noqa: F821
    """The same, with the file that each key stands in, if there are several files."""
    if len(layers) == 1:
        return error
    faults = []
    for key, sentence in error.faults:
        file = next((name for name in reversed(layers) if _has(layers[name], key)), None)
        faults.append((key, f"{sentence} ({file})" if file else sentence))
    return type(error)(faults=faults)


def standing_at(keys: object, place: Sequence[str]) -> object:
    """What stands at a place of a file; ABSENT where there is none."""
    for part in place:
        by_name = {str(name): value for name, value in keys.items()} if isinstance(keys, Mapping) else {}
        keys = by_name.get(part, ABSENT)
    return keys


def _has(keys: Mapping, key: str) -> bool:
    """Whether `sweep.primary[0].mode`, or the list that this is in, stands in a file."""
    return standing_at(keys, key.partition("[")[0].split(".")) is not ABSENT


def _stop_if_whole(config: Mapping, name: str, keys: Mapping) -> None:
    """A file of the first edition had everything, and nothing was added to it. Where something would be now, that is
    said."""
    from pipeline.config_check import ConfigError, check

    if not (added := list(_added(config, keys, ""))):
        return
    try:
        check(keys)
    except ConfigError:
        return  # it needs config.yaml
    shown = ", ".join(added[:4]) + (f" and {len(added) - 4} more" if len(added) > 4 else "")
    raise SystemExit(
        f"config error: {name} is whole, as configurations of the first edition were, and config.yaml would now add"
        f" {shown} to it; write down what differs with `PYTHONPATH=workflow python -m pipeline.config_file"
        f" {shlex.quote(name)} --differences` ({MOVING})"
    )


def _added(whole: Mapping, keys: Mapping, above: str) -> Iterator[str]:
    """Keys of the whole configuration that a file does not have."""
    for name, value in whole.items():
        if name not in keys:
            yield f"{above}{name}"
        elif isinstance(value, Mapping) and isinstance(keys[name], Mapping):
            yield from _added(value, keys[name], f"{above}{name}.")


# -------------------------------------------------------------------------------------------------------------- reading


def read_config(path: Path, overlay: Mapping | None = None) -> dict:
    """The whole configuration of a study's file, with the keys of `overlay` laid over it.

    Raises:
        SystemExit: there is no such file, or it is no YAML, or a value does not fit.
    """
    layers = read_layers([path], overlay)
    return checked_study(merged(layers), layers, together=False).config


def read_study(path: Path, overlay: Mapping | None = None) -> Study:
    """The study of a configuration file, with the keys of `overlay` laid over it. Raises SystemExit as `read_config`,
    and for settings that cannot go together."""
    layers = read_layers([path], overlay)
    return checked_study(merged(layers), layers)


def overlay_of(pairs: Sequence[str], loader: type = yaml.SafeLoader) -> dict:
    """The keys of the KEY=VALUE pairs of `--config`, values as `loader` reads them.

    Raises:
        SystemExit: for what is no such pair, or no YAML.
    """
    overlay = {}
    for pair in pairs:
        key, is_pair, value = pair.partition("=")
        try:
            overlay[key] = yaml.load(value, loader)
        except yaml.YAMLError:
            is_pair = ""
        if not is_pair:
            raise SystemExit(f"config error: --config {pair}: not KEY=VALUE, as in --config 'seeds=[42]'")
    return overlay


def results_folder(path: Path, overlay: Sequence[str]) -> Path:
    """Where the results of a configuration file lie, given the KEY=VALUE pairs that Snakemake lays over it."""
    from pipeline.combinations.names import check_word

    named = {key: text or "" for key, text in overlay_of(overlay, yaml.BaseLoader).items() if key == "study"}
    study = read_config(path, named)["study"]
    check_word("study", study)
    return Path("results") / study


def device_of(path: Path, overlay: Sequence[str]) -> str:
    """`model.device` of a configuration file, given the KEY=VALUE pairs that Snakemake lays over it."""
    model = overlay_of(overlay).get("model")
    return read_config(path, {"model": model} if isinstance(model, Mapping) else None)["model"]["device"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--merged", action="store_true")
    parser.add_argument("--differences", action="store_true")
    options = parser.parse_args()
    if options.differences:
        print(written(read_keys(options.file)), end="")
        return
    config = read_study(options.file).config
    if options.merged:
        print(yaml.safe_dump(config, sort_keys=False), end="")


if __name__ == "__main__":
    main()
