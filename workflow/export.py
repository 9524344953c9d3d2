"""`make export`: a checkpoint of a study as a plain model folder, its adapter merged into the base. Prints how to study
it elsewhere.

The weights are those that the study's own jobs work with, in model.dtype: merged as at a load, so that they are equal
bit for bit.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import yaml
from pipeline import ROOT
from pipeline.combinations import reads_as_value
from pipeline.config_file import read_study
from pipeline.study import Study

from safety_geometry.artefacts.integrity import CONFIG, advice, faults_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml", help="configuration of the study")
    parser.add_argument("--checkpoint", required=True, metavar="REGIME:STEP", help="a step, or the name of an anchor")
    parser.add_argument("--folder", required=True, type=Path, help="where the model goes; must not exist")
    parser.add_argument("--seed", type=int, help="of the study's seeds (default: the first)")
    arguments = parser.parse_args()
    target = arguments.folder.absolute()
    os.chdir(ROOT)
    study = read_study(Path(arguments.configfile))
    files, name = located(study, arguments.checkpoint, arguments.seed)
    if target.exists():
        sys.exit(f"error: {arguments.folder} exists already; name another folder, or remove it")
    os.environ[CONFIG] = arguments.configfile
    if faults := faults_of(files.values()):
        sys.exit(f"error: {'; '.join(fault.what for fault in faults)}; {advice(faults)}")
    scratch = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        write(files, scratch, study.config["model"]["dtype"])
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{name} stands in {target}. To study it, put into a configuration:\n")
    source = source_name(target)
    print(yaml.safe_dump({"sources": {source: {"kind": "path", "path": str(target)}}}, sort_keys=False).rstrip())
    step = int(name.split(":")[1])
    steps = {step: {"source": source, "format": "folder"}}
    print(yaml.safe_dump({"checkpoints": {"mine": {"reference": step, "steps": steps}}}, sort_keys=False).rstrip())


def source_name(folder: Path) -> str:
    """A folder's name as a configuration may have it: letters, digits, _ and -."""
    name = re.sub("[^A-Za-z0-9_-]+", "_", folder.name).strip("_-")[:50]
    return f"model_{name}" if not name or reads_as_value(name) else name


def located(study: Study, checkpoint: str, seed: int | None) -> tuple[dict[str, Path], str]:
    """Files of a checkpoint (`model`, and `adapter` where it has one), and its name as regime:step. Ends with a message
    if it is not there."""
    regime, _, anchor = checkpoint.partition(":")
    seed = study.config["seeds"][0] if seed is None else seed
    if regime not in study.trajectories:
        sys.exit(f"error: the study has no regime {regime!r}; it has {', '.join(study.trajectories)}")
    step = study.anchors(regime).get(anchor, int(anchor) if anchor.isdigit() else None)
    if step not in study.steps(regime):
        known = ", ".join([*study.anchors(regime), *map(str, study.steps(regime))])
        sys.exit(f"error: {regime} has no step {anchor!r}; it has {', '.join(dict.fromkeys(known.split(', ')))}")
    files = {key: Path(path) for key, path in study.layout.weights(regime, step, seed).items()}
    if missing := [path for path in files.values() if not path.is_dir()]:
        sys.exit(
            f"error: {missing[0]} is not there: run the study first (or it has train.keep: anchors, and this is no"
            " anchor)"
        )
    return files, f"{regime}:{step}"


def write(files: dict[str, Path], folder: Path, dtype: str) -> None:
    from safety_geometry.models.loading import load_model, save_plain
    from safety_geometry.models.tokenizer import load_tokenizer

    save_plain(load_model(files["model"], dtype, adapter=files.get("adapter")), load_tokenizer(files["model"]), folder)


if __name__ == "__main__":
    main()
