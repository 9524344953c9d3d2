"""Do two roles meet? Exact and near-duplicate prompts between every pair of roles, and what to do about them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd

from safety_geometry.artefacts.tables.checks import LEAKAGE
from safety_geometry.prompts.rows import normalise, request_of
from safety_geometry.prompts.splits import KINDS, Role, shared, similar_pairs

FLOOR = 0.05  # similarities below this are not looked at; max_jaccard then reads 0


class LeakageError(ValueError):
    """Roles that have to be disjoint share prompts. Names roles, counts and ids, never a prompt."""


@dataclass(frozen=True)
class Leak:
    """One pair of prompts, each in its role, with the Jaccard similarity of their content words."""

    role_a: str
    id_a: str
    role_b: str
    id_b: str
    jaccard: float
    exact: bool


def find_leaks(rows: Mapping[str, Sequence[Mapping]], threshold: float) -> list[Leak]:
    """Every pair of prompts, of two roles or inside one, whose similarity is at least `threshold` (equal prompts have
    1)."""
    flat, i, j, jaccard, exact = _similar(rows, threshold)
    pairs = zip(i.tolist(), j.tolist(), jaccard.tolist(), exact.tolist(), strict=True)
    return [Leak(*flat[a], *flat[b], value, equal) for a, b, value, equal in pairs]


def _similar(rows: Mapping[str, Sequence[Mapping]], threshold: float) -> tuple:
    """(role, id) of every prompt, and the similar pairs as arrays: indices i < j, Jaccard, equal when normalised."""
    flat = [(role, row["id"]) for role in rows for row in rows[role]]
    texts = [request_of(row) for role in rows for row in rows[role]]
    code: dict[str, int] = {}
    codes = np.array([code.setdefault(normalise(text), len(code)) for text in texts])
    i, j, jaccard = similar_pairs(texts, threshold)
    return flat, i, j, jaccard, codes[i] == codes[j]


def leakage_table(
    rows: Mapping[str, Sequence[Mapping]], roles: Mapping[str, Role], threshold: float, dropped: Mapping | None = None
) -> pd.DataFrame:
    """One row per unordered pair of roles (a role with itself counts the pairs inside it), as in the table `LEAKAGE`
    without its seed.

    `exact` and `near` count pairs of prompts; `max_jaccard` is over pairs that are not one prompt with itself; `status`
    is within | shared | leak | disjoint. `dropped` maps (role_a, role_b) to the prompts taken out because of that pair.
    """
    names = list(rows)
    flat, i, j, jaccard, exact = _similar(rows, min(FLOOR, threshold))
    number = np.array([names.index(role) for role, _ in flat])
    shape = (len(names), len(names))
    pair = (
        number[i] * len(names) + number[j]
    )  # prompts stand in the order of the roles, so the first is the earlier role
    near = ~exact & (jaccard >= threshold - 1e-12)
    counts = [np.bincount(pair[kind], minlength=len(names) ** 2).reshape(shape) for kind in (exact, near)]
    highest = np.zeros(len(names) ** 2)
    np.maximum.at(highest, pair, jaccard)
    highest = highest.reshape(shape)
    table = []
    for (row, a), (column, b) in combinations_with_replacement(enumerate(names), 2):
        meets = counts[0][row, column] + counts[1][row, column]
        status = "within" if a == b else "disjoint" if not meets else "shared" if shared(roles[a], roles[b]) else "leak"
        numbers = (
            int(counts[0][row, column]),
            int(counts[1][row, column]),
            float(highest[row, column]),
            (dropped or {}).get((a, b), 0),
        )
        table.append((a, b, len(rows[a]), len(rows[b]), *numbers, status))
    return pd.DataFrame(table, columns=[name for name in LEAKAGE.names if name != "seed"])


def check_leakage(rows: Mapping[str, Sequence[Mapping]], roles: Mapping[str, Role], threshold: float) -> None:
    """Raise LeakageError when two roles that do not share prompts meet: pairs of roles, counts, up to five ids each."""
    pairs: dict[tuple[str, str], list[Leak]] = {}
    for leak in find_leaks(rows, threshold):
        if leak.role_a != leak.role_b and not shared(roles[leak.role_a], roles[leak.role_b]):
            pairs.setdefault((leak.role_a, leak.role_b), []).append(leak)
    if not pairs:
        return
    parts = []
    for (a, b), leaks in sorted(pairs.items()):
        exact = sum(leak.exact for leak in leaks)
        shown = ", ".join(f"{leak.id_a} ~ {leak.id_b}" for leak in leaks[:5]) + (" …" if len(leaks) > 5 else "")
        parts.append(f"{a} and {b}: {exact} exact, {len(leaks) - exact} near-duplicate pairs ({shown})")
    raise LeakageError(
        f"{len(pairs)} pair(s) of roles share prompts: {'; '.join(parts)}. Take them out of one role, set `n` to a"
        " number so that roles are drawn apart, name the role in `shares` if both are evaluation, or set on_leak: drop"
    )


def drop_leaks(
    rows: Mapping[str, Sequence[Mapping]], roles: Mapping[str, Role], threshold: float
) -> tuple[dict[str, list[dict]], dict[tuple[str, str], int]]:
    """Take the prompts that leak out of the role that yields: judge before train, probe, monitor, evaluation; of two
    roles of one kind the later one. Returns the remaining rows and the prompts dropped per pair of roles (each once).
    """
    place = {name: (KINDS.index(roles[name].kind), number) for number, name in enumerate(rows)}
    gone: dict[str, set[str]] = {name: set() for name in rows}
    dropped: Counter = Counter()
    leaks = [
        x for x in find_leaks(rows, threshold) if x.role_a != x.role_b and not shared(roles[x.role_a], roles[x.role_b])
    ]
    # The best protected holders first: a prompt that has gone itself takes no other with it.
    for leak in sorted(leaks, key=lambda x: sorted((place[x.role_a], place[x.role_b]))):
        a, b = (leak.role_a, leak.id_a), (leak.role_b, leak.id_b)
        (holder, held), (loser, lost) = sorted((a, b), key=lambda end: place[end[0]])
        if held not in gone[holder] and lost not in gone[loser]:
            gone[loser].add(lost)
            dropped[leak.role_a, leak.role_b] += 1
    left = {name: [dict(row) for row in rows[name] if row["id"] not in gone[name]] for name in rows}
    if empty := [name for name in rows if rows[name] and not left[name]]:
        raise LeakageError(
            f"on_leak: drop leaves nothing in {', '.join(empty)}: its prompts are all in roles that come first"
        )
    return left, dict(dropped)
