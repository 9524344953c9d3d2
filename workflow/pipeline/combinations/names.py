"""Names that are taken or read as something else, and files and sources that cannot be what is said of them."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import yaml

from pipeline.combinations.needed import require_known
from pipeline.config_check import ConfigError
from pipeline.layout import ATTACKED_SUITES, TEMPLATES
from pipeline.study import Study

WORDS = {"none", "nan", "na", "nil", "y", "n"}  # besides what YAML and Python read as a value
WILDCARD = re.compile(r"\{\s*[.\w]+\s*[,}]")  # Snakemake's, which it looks for in every path
TEXT = "tag:yaml.org,2002:str"


def check_words(study: Study) -> None:
    """Names that YAML, Python or a table's reader takes for a value, that are taken, or that some disks cannot tell
    apart."""
    config, prompts = study.config, study.config["prompts"]
    named = {
        "study": [config["study"]],
        "sources": config["sources"],
        "prompts.sets": prompts["sets"],
        "prompts.roles": prompts["roles"],
        "regimes": study.regimes,
        "checkpoints": study.brought,
        "aligned.models": study.models,
        "judges.models": study.model_judges,
        "sweep.directions": study.directions,
    }
    for key, names in named.items():
        for name in names:
            check_word(key, name)
        if both := [word for word, n in Counter(name.casefold() for name in names).items() if n > 1]:
            alike = [name for name in names if name.casefold() == both[0]]
            raise ConfigError(
                key, alike, "these differ in capitals only, and some disks do not; call one something else"
            )
    for suite in ("framings", *ATTACKED_SUITES):
        if suite in prompts["roles"]:
            raise ConfigError("prompts.roles", suite, "a suite of attacks has this name; call it something else")


def check_word(key: str, name: str) -> None:
    """Raises ConfigError for a name that is a value to some reader."""
    if reads_as_value(name):
        raise ConfigError(
            key,
            name,
            "a name that is read as a number, a truth value or nothing, by YAML or in a table; call it something else",
        )


def reads_as_value(name: str) -> bool:
    """Whether YAML takes an unquoted name for something else than text, or a reader of tables takes it for a number or
    for nothing."""
    if yaml.resolver.Resolver().resolve(yaml.ScalarNode, name, (True, False)) != TEXT or name.casefold() in WORDS:
        return True
    with contextlib.suppress(ValueError):
        float(name)
        return True
    return False


def _entries(study: Study) -> dict[str, Mapping]:
    """Key -> every entry that names a source, or a file of this machine."""
    config, judges = study.config, study.config["judges"]
    entries = {"judges": judges, "model": config["model"]}
    if config["model"]["format"] == "tiny":  # made here: its source is not looked at
        entries["model"] = config["model"] | {"source": None}
    for name, trajectory in study.brought.items():
        key = f"checkpoints.{name}"
        entries |= {key: trajectory} | ({f"{key}.base": trajectory["base"]} if "base" in trajectory else {})
        entries |= {f"{key}.steps.{step}": entry for step, entry in trajectory["steps"].items()}
    entries |= {f"aligned.models.{name}": model for name, model in study.models.items()}
    for name, prompts in config["prompts"]["sets"].items():
        key = f"prompts.sets.{name}"
        entries |= {key: prompts} | ({f"{key}.targets": prompts["targets"]} if "targets" in prompts else {})
    if judges["labelled"]:
        entries |= {f"judges.labelled.{kind}": judges["labelled"][kind] for kind in study.layout.labelled_kinds()}
    if study.embeddings:
        entries["judges.embeddings"] = study.embeddings
    for name, judge in study.model_judges.items():
        key = f"judges.models.{name}"
        templates = {part: judge[part] for part in TEMPLATES if isinstance(judge.get(part), Mapping)}
        entries |= {key: judge} | {f"{key}.{part}": entry for part, entry in templates.items()}
    return entries


def check_files(study: Study) -> None:
    """Paths that Snakemake or a script's command line takes for something else, and patterns that leave their
    source."""
    for key, path in _local_files(study):
        if wildcard := WILDCARD.search(path):
            raise ConfigError(
                key,
                path,
                f"Snakemake takes {wildcard[0]} for a wildcard; rename the file, or copy it to a name without braces",
            )
        if path.startswith(("-", "~")):
            raise ConfigError(
                key, path, f"a path that begins with {path[0]} is taken for something else; write it in full, from / on"
            )
    for key, pattern in _patterns(study):
        if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise ConfigError(key, pattern, "has to be a file within the source, without / before it and without ..")


def _local_files(study: Study) -> Iterator[tuple[str, str]]:
    """(key, path) of every file that is named by its place on this machine."""
    yield from ((f"sweep.directions.{name}.file", spec["file"]) for name, spec in study.directions.items())
    for key, entry in _entries(study).items():
        for name in ("chat_template", "hand_labels", *TEMPLATES):
            if isinstance(path := entry.get(name), str):
                yield f"{key}.{name}", path
        if not entry.get("source"):
            yield from ((f"{key}.files", path) for path in entry.get("files", []))


def _patterns(study: Study) -> Iterator[tuple[str, str]]:
    """(key, pattern) of every file that is looked for within a source."""
    for name, source in study.config["sources"].items():
        for member in source.get("members", []):
            yield f"sources.{name}.members", member if isinstance(member, str) else member["path"]
        for part in source.get("parts", []):
            yield f"sources.{name}.parts", part["file"]
        if "file" in source:
            yield f"sources.{name}.file", source["file"]
    for key, entry in _entries(study).items():
        if entry.get("source"):
            yield from ((f"{key}.files", pattern) for pattern in entry.get("files", []))
            if "file" in entry:
                yield f"{key}.file", entry["file"]


def check_sources(study: Study) -> None:
    for key, entry in _entries(study).items():
        for name in ("source", "base"):
            if isinstance(source := entry.get(name), str):
                require_known(f"{key}.{name}", source, "source", study.config["sources"])
