"""What figures say of their numbers: how many stand behind a point, over which seeds, and where R is read."""

from collections.abc import Mapping

import pandas as pd


def r_statuses(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`seed, regime, r_status` of the table coupling; no rows where it is not given."""
    coupling, columns = tables.get("coupling"), ["seed", "regime", "r_status"]
    return pd.DataFrame(columns=columns) if coupling is None or "r_status" not in coupling else coupling[columns]


def hollow_note(tables: Mapping[str, pd.DataFrame]) -> str:
    """What a HOLLOW mark is, by the table coupling; where that is not given, both that it may be."""
    known = set(r_statuses(tables)["r_status"])
    sites = {"reference": "at a reference anchor's R", "candidate": "at the best candidate, which is no R"}
    read = [words for status, words in sites.items() if status in known or not known & set(sites)]
    return f"hollow: no R of its own, read {', or '.join(read)}"


def candidates_note(tables: Mapping[str, pd.DataFrame]) -> str:
    """Of which regimes, and with which seeds where not with all, R is read at a candidate that is no R, by the table
    coupling; empty where of none."""
    rows = r_statuses(tables)
    read = rows[rows["r_status"] == "candidate"]
    if not len(read):
        return ""
    seeds = ", ".join(map(str, sorted(set(read["seed"])))) if set(read["seed"]) < set(rows["seed"]) else ""
    where = f" with seed {seeds}" if seeds else ""
    return f"; no R{where}, read at the best candidate: {', '.join(dict.fromkeys(read['regime']))}"


def seeds_note(frame: pd.DataFrame, bars: str = "") -> str:
    """What stands behind a point: one seed, with `bars` where it has any, or several with their range."""
    n = len(set(frame["seed"]))
    if n > 1:
        return f"line: mean of {n} seeds; bars or bands: their range"
    return f"bars or bands: {bars}; one seed" if bars else "one seed"


def counts(frame: pd.DataFrame, column: str) -> str:
    """`n = 24`, or the range of n where it differs."""
    n = frame[column].dropna().astype(int)
    return "n = 0" if not len(n) else f"n = {n.min()}" if n.min() == n.max() else f"n = {n.min()}-{n.max()}"


def fit_prompts(tables: Mapping[str, pd.DataFrame]) -> str:
    """`n = 48 + 48 prompts`, harmful and benign, that the carriers are fitted on; empty without the table coupling."""
    coupling = tables.get("coupling")
    if coupling is None or not len(coupling):
        return ""
    return f"{counts(coupling, 'n_harmful')} + {counts(coupling, 'n_benign').removeprefix('n = ')} prompts"


def stated_prompts(tables: Mapping[str, pd.DataFrame], what: str) -> str:
    """`n = 12`, from the frame `prompts` (columns what, n) of numbers that stand in no table; empty where it does not
    say."""
    stated = tables.get("prompts", pd.DataFrame(columns=["what", "n"])).dropna()
    return counts(stated[stated["what"] == what], "n") if (stated["what"] == what).any() else ""


def p_text(p: float) -> str:
    """A p with three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def success(frame: pd.DataFrame) -> str:
    """What attack success is called: "not refused" where a row's success_means says that it is no more."""
    plain = "success_means" in frame and (frame["success_means"] == "not_refused").any()
    return "not refused" if plain else "attack success"


def first_seed(frame: pd.DataFrame, having: pd.DataFrame | None = None, what: str = "") -> tuple[pd.DataFrame, str]:
    """The rows of the first seed, and a note that says which it is and of how many.

    having: rows of those seeds that have something to see (`what`), the first of which is taken where there is one.
    """
    seeds = sorted(frame["seed"].unique())
    seen = sorted(having["seed"].unique()) if having is not None else []
    seed = seen[0] if seen else seeds[0]
    note = f"seed {seed}" + (f", first of {len(seeds)}" if len(seeds) > 1 else "")
    return frame[frame["seed"] == seed], note + (
        f" {what}" if len(seeds) > 1 and len(seen) not in (0, len(seeds)) else ""
    )
