"""`make export`: a checkpoint of a study as a plain model folder, its adapter merged into the base; its directions as
files; or the model without one of them. Prints how to study a model elsewhere.

model: the weights are those that the study's own jobs work with, in model.dtype: merged as at a load, so that they are
equal bit for bit. directions: H and R, unit vectors, as safetensors, for repeng (GGUF) and for steering-vectors. no-h,
no-r: the model whose weights are orthogonal to H or R, with what that costs in cost.json: KL, refusals and utility
before and after, on prompts of roles direct and utility.
"""

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path

import yaml
from pipeline import ROOT
from pipeline.combinations.names import reads_as_value
from pipeline.config_file import read_study
from pipeline.layout import filled
from pipeline.study import Study

from safety_geometry.artefacts.integrity import CONFIG, advice, faults_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="config.yaml", help="configuration of the study")
    parser.add_argument("--checkpoint", required=True, metavar="REGIME:STEP", help="a step, or the name of an anchor")
    parser.add_argument("--folder", required=True, type=Path, help="where it goes; must not exist")
    parser.add_argument("--what", choices=("model", "directions", "no-h", "no-r"), default="model")
    parser.add_argument("--prompts", type=int, default=32, help="of each role, for what a change costs (default: 32)")
    parser.add_argument("--seed", type=int, help="of the study's seeds (default: the first)")
    arguments = parser.parse_args()
    target = arguments.folder.absolute()
    os.chdir(ROOT)
    study = read_study(Path(arguments.configfile))
    seed = study.config["seeds"][0] if arguments.seed is None else arguments.seed
    files, name = located(study, arguments.checkpoint, seed)
    regime, step = name.split(":")[0], int(name.split(":")[1])
    if arguments.what != "model":
        files |= carriers_of(study, regime, seed)
    if arguments.what.startswith("no-"):
        files |= {role: Path(filled(study.layout.role(role), seed)) for role in ("direct", "utility")}
    if missing := [path for path in files.values() if not path.exists()]:
        sys.exit(f"error: {missing[0]} is not there: run the study first")
    if target.exists():
        sys.exit(f"error: {arguments.folder} exists already; name another folder, or remove it")
    os.environ[CONFIG] = arguments.configfile
    if faults := faults_of(files.values()):
        sys.exit(f"error: {'; '.join(fault.what for fault in faults)}; {advice(faults)}")
    scratch = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        if arguments.what == "model":
            write(files, scratch, study.config["model"]["dtype"])
        elif arguments.what == "directions":
            write_directions(files, scratch, step)
        else:
            write_without(files, scratch, step, arguments.what[-1], study.config, arguments.prompts)
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if arguments.what == "directions":
        print(f"Directions of {name} stand in {target}: {', '.join(sorted(path.name for path in target.iterdir()))}")
        return
    what = name if arguments.what == "model" else f"{name} without {arguments.what[-1].upper()}"
    print(f"{what} stands in {target}. To study it, put into a configuration:\n")
    source = source_name(target)
    print(yaml.safe_dump({"sources": {source: {"kind": "path", "path": str(target)}}}, sort_keys=False).rstrip())
    steps = {step: {"source": source, "format": "folder"}}
    print(yaml.safe_dump({"checkpoints": {"mine": {"reference": step, "steps": steps}}}, sort_keys=False).rstrip())


def source_name(folder: Path) -> str:
    """A folder's name as a configuration may have it: letters, digits, _ and -."""
    name = re.sub("[^A-Za-z0-9_-]+", "_", folder.name).strip("_-")[:50]
    return f"model_{name}" if not name or reads_as_value(name) else name


def located(study: Study, checkpoint: str, seed: int) -> tuple[dict[str, Path], str]:
    """Files of a checkpoint (`model`, and `adapter` where it has one), and its name as regime:step. Ends with a message
    if it is not there."""
    regime, _, anchor = checkpoint.partition(":")
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


def carriers_of(study: Study, regime: str, seed: int) -> dict[str, Path]:
    return {"carriers": Path(filled(study.layout.carriers, seed, regime))}


def write(files: dict[str, Path], folder: Path, dtype: str) -> None:
    from safety_geometry.models.loading import load_model, save_plain
    from safety_geometry.models.tokenizer import load_tokenizer

    save_plain(load_model(files["model"], dtype, adapter=files.get("adapter")), load_tokenizer(files["model"]), folder)


def directions(files: dict[str, Path], step: int) -> dict:
    """H, and R where there is one, by name. Ends with a message where carriers of the step are not there."""
    from safety_geometry.artefacts.carriers import read_carriers
    from safety_geometry.artefacts.direction_files import Direction
    from safety_geometry.artefacts.errors import ArtefactError

    try:
        carriers = read_carriers(files["carriers"], step).by_kind
    except ArtefactError as error:
        sys.exit(f"error: {error}")
    return {kind.lower(): Direction(c.direction, c.layer, c.position) for kind, c in carriers.items()}


def write_directions(files: dict[str, Path], folder: Path, step: int) -> None:
    """All in one file of safetensors; each in a file of its own for others, which begin behind block 0."""
    from safety_geometry.artefacts.direction_files import write_repeng, write_safetensors, write_steering_vectors

    family = json.loads((files["model"] / "config.json").read_text(encoding="utf-8"))["model_type"]
    known = directions(files, step)
    folder.mkdir(parents=True)
    write_safetensors(folder / "directions.safetensors", known)
    for name, direction in known.items():
        if direction.layer == 0:
            print(
                f"{name.upper()} is read at the embedding, where repeng and steering-vectors do not act: no files of it"
            )
            continue
        write_repeng(folder / f"{name}.gguf", {name: direction}, family)
        write_steering_vectors(folder / f"{name}.pt", {name: direction})


def write_without(files: dict[str, Path], folder: Path, step: int, kind: str, config: dict, first: int) -> None:
    """The model without direction `kind` in its weights, and what that costs."""
    from safety_geometry.artefacts.prompts import read_role
    from safety_geometry.causal.cost import cost
    from safety_geometry.models.configuration import ModelError
    from safety_geometry.models.language_model import load_language_model
    from safety_geometry.models.loading import configure, save_plain
    from safety_geometry.models.orthogonal import orthogonalise

    known, model, completions = directions(files, step), config["model"], config["completions"]
    if kind not in known:
        sys.exit(f"error: this checkpoint has no {kind.upper()}")
    configure(model["threads"])
    loaded = load_language_model(
        files["model"], model["dtype"], model["device"], files.get("adapter"), model.get("system")
    )
    harmful, benign = (read_role(files[role], first) for role in ("direct", "utility"))
    limits = {suite: completions["max_new_tokens"][suite] for suite in ("direct", "utility")}
    try:
        spent = cost(
            loaded, lambda: orthogonalise(loaded.model, known[kind].vector), harmful, benign, limits,
            completions["batch_size"],
        )  # fmt: skip
    except ModelError as error:
        sys.exit(f"error: {error}")
    save_plain(loaded.model.to("cpu"), loaded.tokenizer, folder)
    told = {"removed": kind.upper(), "layer": known[kind].layer, "position": known[kind].position, **spent}
    (folder / "cost.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(
        ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()
        )
    )


if __name__ == "__main__":
    main()
