"""`make power`: what a study could decide, before it is run. Claim by claim: n, variance, least detectable effect,
deciding n.

Variances are those of stored tables: of the study's own results, else of the reference in docs/results, else assumed
(src/safety_geometry/claims/margins.py). The table is printed and written to results/<study>/power.csv; nothing is run.
"""

import argparse
import os
from pathlib import Path

import pandas as pd
from pipeline import ROOT
from pipeline.config_file import read_study
from pipeline.study import Study

from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.claims.catalogue import SWEPT, claims_for
from safety_geometry.claims.decide import claims_table
from safety_geometry.claims.power import Plan, power_table, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument("--stored", type=Path, help="folder of tables to take variances from")
    options = parser.parse_args()
    os.chdir(ROOT)
    study = read_study(options.configfile)
    plan, folder = planned(study), options.stored or stored_tables(study)
    swept = [regime for regime in study.config["sweep"]["checkpoints"] if regime in study.trajectories]
    claims = claims_for(dict.fromkeys([*swept, *study.models] or SWEPT), study.trajectories)
    before = None if folder is None else decided_before(folder)
    table = power_table(claims, plan, before)
    print("all variances are assumed" if before is None else f"variances from {folder}")
    print("\n".join(shown(table, plan)))
    file = Path(study.layout.root) / "power.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(file, index=False, float_format="%.6g")
    print(f"written to {file}")


def planned(study: Study) -> Plan:
    """What the claims see of a configuration."""
    config = study.config
    roles, sweep, aligned = config["prompts"]["roles"], config["sweep"], config["aligned"]
    suites, swept = sweep["generate"]["suites"], bool(study.swept())
    sizes = {name: number(roles.get(name)) for name in ("direct", "lookalike", "utility", "usefulness")}
    sizes |= {"fit": number(roles.get("fit_harmful")), "select": number(roles.get("select_harmful"))}
    asked, matched = sweep.get("reply_inversion"), bool(roles.get("counterpart"))
    sizes |= {"inversion": asked["prompts"]["harmful"] if asked else 0, "pairs": sizes["lookalike"] * matched}
    sizes |= {"attacked": config["attacks"]["behaviours"], "readout": sweep["prompts"]["harmful"] * swept}
    sizes |= {"generated": suites.get("direct", 0) * (swept or bool(aligned["models"])), "seeds": len(config["seeds"])}
    sizes |= {"follow_up": config["follow_up"]["suites"].get("direct", 0) // 2 * bool(config["follow_up"]["targets"])}
    saves = [len(study.steps(regime)) for regime in study.trajectories]
    sizes |= {"saves": max(saves, default=0) * (max(saves, default=0) >= 20), "choice": 1}
    sources = [len(steps or ()) for steps in config["transfer"]["sources"].values()]
    sizes["sources"] = max(sources, default=0) * (max(sources, default=0) * len(config["seeds"]) >= 5)
    regimes = frozenset([*study.trajectories, *study.models])
    return Plan(config["study"], len(config["seeds"]), sizes, regimes)


def number(role: dict | None) -> int:
    """Prompts of a role; `all` of a set is not known before it is fetched."""
    return role["n"] if role and isinstance(role["n"], int) else 0


def stored_tables(study: Study) -> Path | None:
    """The study's own tables, else those of the reference."""
    name = study.config["study"]
    folders = [
        Path(study.layout.root) / "tables",
        Path("docs/results") / name / "tables",
        Path("docs/results/full/tables"),
    ]
    return next((folder for folder in folders if (folder / "five_anchor.csv").exists()), None)


def decided_before(folder: Path) -> pd.DataFrame | None:
    """Claims decided anew from stored tables, for their intervals; None where these are of an earlier version."""
    paths = [path for path in sorted(folder.glob("*.csv")) if path.stem in TABLES and path.stem != "claims"]
    read = {path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in paths}
    old = [name for name, table in read.items() if not set(TABLES[name].names) <= set(table.columns)]
    if old:
        print(f"the tables in {folder} are of an earlier version ({', '.join(old)})")
    return None if old else claims_table(read, ())


if __name__ == "__main__":
    main()
