"""results/<study>/summary.html: one page that says what was run, what it says of the claims, and where to read on.

It opens from the disk and loads nothing. What stands on it comes from the study's tables and figures and from its
configuration, and is escaped; of the configuration it names no path of the machine and no address.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2
import pandas as pd

from pipeline import ROOT
from pipeline.stages.tables import figures
from pipeline.study import Study
from safety_geometry.artefacts.integrity import IntegrityError, read_sidecar
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.claims.forest import forests, tally, why_not
from safety_geometry.figures.style import NOTHING

MOST = 1_000_000  # bytes of the page
MAIN = 4  # figures
# What is shown first; others stand in where one of these has nothing to draw.
FIRST = ("five_anchor", "coupling_controls", "control_effects", "training_curves", "aligned_anchors", "selection",
         "attacks", "transfer", "layer_profile")  # fmt: skip
MIME = {".svg": "svg+xml", ".png": "png"}
SHOWN = ("Python", "torch", "transformers", "peft")


def page(study: Study, results: Path) -> str:
    """The page of a finished study. Raises ArtefactError where a table is missing or is none."""
    claims = read_table(results / "tables" / "claims.csv")
    anchors = read_table(results / "tables" / "five_anchor.csv")
    drawn, blank = chosen(study, results)
    known = {
        "study": study.config["study"],
        "run": list(what_was_run(study, anchors, results)),
        "tally": tally(claims["verdict"]),
        "areas": forests(claims),
        "missing": why_not(claims),
        "tuned": bool(claims["tuned"].any()),
        "several": len(set(anchors["seed"])) > 1,
        "blank": blank,
        "next": read_next(study, claims, results),
    }
    bare = render(known | {"figures": [shown(path, None) for path in drawn]})
    return render(known | {"figures": embedded(drawn, MOST - len(bare.encode()))})


def render(known: Mapping) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "workflow" / "report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )  # fmt: skip
    return environment.get_template("summary.html.j2").render(known)


# ------------------------------------------------------------------------------------------------------------- figures


def chosen(study: Study, results: Path) -> tuple[list[Path], list[str]]:
    """The main figures of the study that show something, and the names of those that would be but have nothing."""
    drawn, blank = [], []
    for name in (name for name in FIRST if name in figures(study)):
        path = results / "figures" / f"{name}.svg"
        if len(drawn) == MAIN or not path.is_file():
            continue
        empty = f'id="{NOTHING}"'.encode() in path.read_bytes()
        blank += [name] * empty
        drawn += [path] * (not empty)
    return drawn, blank


def embedded(paths: list[Path], room: int) -> list[dict]:
    """The figures in their order, as long as they fit into so many bytes: each as SVG or PNG, whichever is smaller."""
    out = []
    for path in paths:
        files = [file for file in (path, path.with_suffix(".png")) if file.is_file()]
        file = min(files, key=lambda file: file.stat().st_size)
        data = f"data:image/{MIME[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"
        fits = len(data) <= room
        room -= len(data) * fits
        out.append(shown(path, data if fits else None))
    return out


def shown(path: Path, data: str | None) -> dict:
    return {"name": path.stem, "caption": caption(path.stem), "data": data}


def caption(figure: str) -> str:
    """The first sentence of a figure's caption in the report, without its markup."""
    text = (ROOT / "workflow" / "report" / f"figure_{figure}.rst").read_text(encoding="utf-8")
    return re.sub(r"\*+|``", "", re.split(r"(?<=[.?])\s", text.strip(), maxsplit=1)[0])


# --------------------------------------------------------------------------------------------------------- what was run


def what_was_run(study: Study, anchors: pd.DataFrame, results: Path) -> Iterator[tuple[str, list[str]]]:
    """Terms, and lines about each."""
    config, model = study.config, study.config["model"]
    if study.regimes:
        yield "Model", [f"{model['name']} ({origin(study, model['source'])})"]
        yield "Trained here", [trajectory(study, name) for name in study.regimes]
    if study.brought:
        yield "Trained elsewhere", [trajectory(study, name) for name in study.brought]
    yield "Seeds", [", ".join(map(str, sorted(set(anchors["seed"])))) + light(study)]
    roles = {name: role for name, role in config["prompts"]["roles"].items() if role["kind"] == "evaluation"}
    yield "Prompts asked", [", ".join(f"{name} {role['n']}" for name, role in roles.items())]
    yield "Attacks", [attacks(study)]
    if swept := dict.fromkeys(f"{name}:{step}" for _, name, step in study.swept()):
        yield "Carriers edited in", [", ".join(swept)]
    yield "Computed", [f"{model['dtype']} on {model['device']}{versions(results)}"]


def attacks(study: Study) -> str:
    """The methods on the fixed source, which all checkpoints are asked."""
    regime, step = study.fixed_source
    steps = {name: study.config["attacks"][name]["steps"] for name in study.methods(regime, step)}
    names = {"gcg": "GCG", "autodan": "AutoDAN"}
    words = [
        f"{names[name]} of {n} step{'s' * (n != 1)}" if n else "a random suffix, not optimised"
        for name, n in steps.items()
    ]
    return f"{' and '.join(words)}, made on {regime}:{step}"


def trajectory(study: Study, name: str) -> str:
    read = [f"{step}{' (reference)' * (anchor == 'reference')}" for anchor, step in study.anchors(name).items()]
    sources = "" if name in study.regimes else f"; from {origin_of_brought(study, name)}"
    n = len(study.steps(name))
    return f"{name}: {n} checkpoint{'s' * (n != 1)}, read in full at {', '.join(read)}{sources}"


def origin_of_brought(study: Study, name: str) -> str:
    return ", ".join(dict.fromkeys(origin(study, step.get("source")) for step in study.brought[name]["steps"].values()))


def origin(study: Study, name: str | None) -> str:
    """Where a model is from, without paths and addresses."""
    source = study.config["sources"].get(name, {})
    if source.get("kind") == "hub":
        return f"{source['repo']} at {source['revision'][:12]}"
    if source.get("kind") == "package":
        return source.get("file") or f"{source['name']} {source['version']}"
    return {"path": f"{name} (of this machine)", "url": f"{name} (by its address)"}.get(source.get("kind"), "made here")


def light(study: Study) -> str:
    return f"; light: {', '.join(map(str, study.light_seeds))}" if study.light_seeds else ""


def versions(results: Path) -> str:
    try:
        record = read_sidecar(results / "tables" / "claims.csv")
    except IntegrityError:
        return ""
    found = {"Python": record.get("python"), **record.get("packages", {})}
    return "".join(f"; {name} {found[name]}" for name in SHOWN if found.get(name))


# ------------------------------------------------------------------------------------------------------------ read next


def read_next(study: Study, claims: pd.DataFrame, results: Path) -> list[dict]:
    """Sentences with tables of the study (links), and pages and commands of the project."""
    undecided = claims[(claims["verdict"] == "inconclusive") & claims["n_decides"].notna()]
    plain = (claims["success_means"] == "not_refused").any()
    items = (
        (True, "Every claim with its rule, numbers and reason:", "tables/claims.csv", "docs/claims.md"),
        (True, "One row per regime and anchor, coupling beside behaviour:", "tables/five_anchor.csv", "docs/tables.md"),
        (True, "Before a coupling value is read, what chance and shared noise give:", "tables/coupling_controls.csv"),
        (study.swept(), "What an edited carrier does beyond matched controls:", "tables/control_normalised.csv"),
        (study.regimes, "Whether training did what its name says:", "tables/training.csv"),
        (plain, "Attack success is no more than “not refused” here; how the judges did:", "tables/judges.csv"),
        (
            len(undecided),
            f"More prompts would decide {len(undecided)} claims; how many:",
            "make power",
            "docs/claims.md",
        ),
        (claims["n_seeds"].max() == 1, "This is one seed; what three say of the same protocol:", "docs/findings.md"),
        (True, "Equations, and what differs from the papers:", "docs/protocol.md"),
        (True, "Another study beside this one:", "make compare A=… B=…", "docs/howto.md"),
    )
    return [
        {
            "why": why,
            "links": [name for name in names if (results / name).is_file()],
            "pages": [name for name in names if not name.startswith("tables/")],
        }
        for wanted, why, *names in items
        if wanted
    ]


def write(study: Study, results: Path) -> Path:
    """Write the page, whole or not at all. Raises ArtefactError where a table is missing, OSError where it cannot be
    written."""
    target = results / "summary.html"
    scratch = target.with_name(".summary.html.partial")
    scratch.write_text(page(study, results), encoding="utf-8")
    scratch.replace(target)
    return target
