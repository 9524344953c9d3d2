"""Prompts to roles: every near-duplicate cluster serves one role, and evaluation chooses first.

Two prompts are near-duplicates when the Jaccard similarity of their content words is at least a threshold; clusters are
the connected components. Each role walks through its sources in an order of its own, hashed from (seed, role, id), and
takes the prompts whose cluster no other role holds. So a larger `n` keeps the prompts that the smaller one had, never
touches roles served earlier, and takes from later ones only what it really needs.

Every run of a study has a draw of its own (`draw_seed`), and the study trains its judges once, for all of them. So the
roles of judges are drawn first (`assign_judges`), from what no evaluation role could draw in any run; the roles of a
run keep out of what they hold.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from safety_geometry.prompts.rows import LABELS, is_mark, normalise, request_of, words_of
from safety_geometry.stats.seeds import derived_seed

KINDS = ("evaluation", "monitor", "probe", "train", "judge")  # the order of protection: the later one yields
STOP_WORDS = words_of(
    "a an the and or but if so of to in on at by for from with without about into as that this these those it its is"
    " are was were be been being am do does did done have has had can could should would will may might must shall not"
    " no yes i me my we us our you your he him his she her they them their what which who whom whose when where why"
    " how than then there here please some any such"
)
# John's, can't, you're: any other word behind an apostrophe is one, as in l'eau or 'eau'.
ENDINGS = r"['’](?:s|t|re|ve|ll|d|m)\b"
# Thai, Lao, Burmese, Khmer, kana, Han.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
BLOCK = 1024  # texts compared with all others at a time: what bounds the memory
ROLE_KEYS = {"source", "n", "kind", "filter", "balance", "shares", "pairs"}


class RoleError(ValueError):
    """Roles that cannot be filled, or are not described well. Names the role, the counts and what to change."""


@dataclass(frozen=True)
class Role:
    """One role. `n` is a number, "all" (all that no other role holds) or "published" (the source as it stands, overlaps
    left to the leakage check). `filter` keeps rows by field; `balance` names a field whose values take turns; `shares`
    names roles with which prompts may be shared; `pairs` names an earlier role of which each prompt has its match here:
    the field `pair` of a row is its match's `key`, and only matches of prompts that were drawn are."""

    name: str
    sources: tuple[str, ...]
    n: int | str
    kind: str
    filter: Mapping[str, tuple]
    balance: str | None
    shares: frozenset[str]
    pairs: str | None = None


@dataclass(frozen=True)
class Assignment:
    """`rows`: role -> rows in the role's order, with `role` and `label` set. `counts`: role that was drawn -> how many
    were wanted, fit the filter, were held by other roles (`dropped`), repeated within the role, and were taken."""

    rows: dict[str, list[dict]]
    counts: dict[str, dict[str, int | str]]


def content_words(text: str) -> frozenset[str]:
    """Lower-cased alphabetic words without stop words; all its words, or the normalised text, where none is left.

    Scripts that put no blanks between words count by pairs of characters.
    """
    plain = re.sub(ENDINGS, "", text.casefold())
    words = "".join(c if (c.isalnum() and not c.isdecimal()) or is_mark(c) else " " for c in plain).split()
    words = [piece for word in words for piece in _pieces(word)]
    return (
        frozenset(word for word in words if word not in STOP_WORDS) or frozenset(words) or frozenset([normalise(text)])
    )


def _pieces(word: str) -> list[str]:
    """The word itself; of its runs in a script without blanks, the pairs of neighbouring characters."""
    if word.isascii():
        return [word]
    pieces = []
    for run in re.findall(f"[{UNSPACED}]+|[^{UNSPACED}]+", word):
        if len(run) > 2 and re.match(f"[{UNSPACED}]", run):
            pieces += [run[i : i + 2] for i in range(len(run) - 1)]
        else:
            pieces.append(run)
    return pieces


def similar_pairs(texts: Sequence[str], threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index pairs i < j (sorted) with Jaccard similarity of content words ≥ `threshold` (> 0), and the similarities."""
    if not 0 < threshold <= 1:
        raise ValueError(f"the similarity threshold is {threshold}; it has to be above 0 and at most 1")
    words = [content_words(text) for text in texts]
    index = {word: column for column, word in enumerate(sorted(frozenset().union(*words)))}
    sizes = np.array([len(blocks) for blocks in words], dtype=np.int64)
    columns = np.array([index[word] for blocks in words for word in sorted(blocks)], dtype=np.int64)
    rows = np.repeat(np.arange(len(words)), sizes)
    table = sparse.csr_array((np.ones(len(columns), dtype=np.int32), (rows, columns)), shape=(len(words), len(index)))
    blocks = []
    for first in range(0, len(words), BLOCK):
        common = sparse.coo_array(table[first : first + BLOCK] @ table[first:].T)
        i, j = common.coords[0] + first, common.coords[1] + first
        jaccard = common.data / (sizes[i] + sizes[j] - common.data)
        near = (i < j) & (jaccard >= threshold - 1e-12)
        blocks.append((i[near], j[near], jaccard[near]))
    i, j, jaccard = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.lexsort((j, i))
    return i[order], j[order], jaccard[order]


def clusters(texts: Sequence[str], threshold: float) -> np.ndarray:
    """Cluster number of every text, int64 (n,): connected components of the near-duplicate pairs."""
    if not len(texts):
        return np.zeros(0, dtype=np.int64)
    i, j, _ = similar_pairs(texts, threshold)
    graph = sparse.coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(len(texts), len(texts)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def read_roles(roles: Mapping[str, Mapping], sources: Iterable[str]) -> dict[str, Role]:
    """Roles from their settings, checked: raises RoleError for an unknown key, kind, source or role named in
    `shares`."""
    known, parsed = sorted(sources), {}
    for name, settings in roles.items():
        where = f"roles.{name}"
        if unknown := sorted(set(settings) - ROLE_KEYS):
            raise RoleError(f"{where}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(ROLE_KEYS))}")
        role = Role(
            name=name,
            sources=_several(settings.get("source", ())),
            n=settings.get("n", "all"),
            kind=settings.get("kind", ""),
            filter={field: _several(values) for field, values in settings.get("filter", {}).items()},
            balance=settings.get("balance"),
            shares=frozenset((*_several(settings.get("shares", ())), *_several(settings.get("pairs") or ()))),
            pairs=settings.get("pairs"),
        )
        if role.kind not in KINDS:
            raise RoleError(f"{where}.kind is {role.kind!r}; it has to be one of {', '.join(KINDS)}")
        if not role.sources or (missing := [source for source in role.sources if source not in known]):
            raise RoleError(
                f"{where}.source: no source {', '.join(missing) if role.sources else 'is given'}; there are {known}"
            )
        if role.n not in ("all", "published") and (
            not isinstance(role.n, int) or isinstance(role.n, bool) or role.n < 1
        ):
            raise RoleError(f"{where}.n is {role.n!r}; it has to be a positive number, all or published")
        if role.kind == "judge" and role.n == "published":
            raise RoleError(f"{where}.n is published, but a judge yields to evaluation prompts; write all, or a number")
        if strangers := sorted(role.shares - set(roles)):
            raise RoleError(f"{where}.shares names {', '.join(strangers)}, which is no role")
        if role.pairs is not None and (role.pairs not in parsed or parsed[role.pairs].kind != role.kind):
            raise RoleError(
                f"{where}.pairs is {role.pairs!r}; it has to be a role of the same kind that stands before it"
            )
        if role.pairs is not None and role.n == "published":
            raise RoleError(f"{where}.n is published, and pairs takes matches of drawn prompts only; set n to all")
        parsed[name] = role
    return parsed


def _several(value) -> tuple:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def shared(a: Role, b: Role) -> bool:
    return a.name in b.shares or b.name in a.shares


def service_order(roles: Mapping[str, Role]) -> list[Role]:
    """Of the roles that are drawn for a run: published splits hold their clusters first, then evaluation chooses, then
    the others as listed."""
    drawn = [role for role in roles.values() if role.kind != "judge"]
    return sorted(drawn, key=lambda role: 0 if role.n == "published" else 1 if role.kind == "evaluation" else 2)


def draw_seed(seed: int, run: int | None) -> int:
    """Of the draw of a run: a function of the study's prompt seed and the run's; `seed` itself where all runs have one
    draw (`run` is None)."""
    return seed if run is None else derived_seed("prompts", seed, run)


class _Draw:
    """Who holds which cluster of near-duplicates, while roles are served."""

    def __init__(self, rows_by_source: Mapping[str, Sequence[Mapping]], roles: Mapping[str, Mapping], threshold: float):
        self.rows_by_source, self.roles = rows_by_source, read_roles(roles, rows_by_source)
        pool = {row["id"]: row for name in sorted(rows_by_source) for row in rows_by_source[name]}
        if len(pool) < sum(len(rows) for rows in rows_by_source.values()):
            raise RoleError(
                "two prompts of the sources have one id; give every source a name of its own, each prompt once"
            )
        ids = sorted(pool)
        self.cluster = dict(zip(ids, clusters([request_of(pool[i]) for i in ids], threshold).tolist(), strict=True))
        self.holders: dict[int, set[str]] = {number: set() for number in self.cluster.values()}

    def fitting(self, role: Role) -> list[Mapping]:
        """Rows of the role's sources that fit its filter."""
        rows = [row for source in role.sources for row in self.rows_by_source[source]]
        return [row for row in rows if all(row.get(field) in values for field, values in role.filter.items())]

    def hold(self, role: Role, rows: Iterable[Mapping]) -> None:
        for row in rows:
            self.holders[self.cluster[row["id"]]].add(role.name)

    def serve(
        self, role: Role, seed: int, drawn: Mapping[str, Sequence[Mapping]]
    ) -> tuple[list[dict], dict[str, int | str]]:
        """The role's rows, which it then holds, and its counts; `drawn`: of the roles before. Raises RoleError when it
        cannot be filled."""
        friends = {role.name} | {other.name for other in self.roles.values() if shared(role, other)}
        fits = self.fitting(role)
        if role.pairs is not None:
            fits = _matched(fits, drawn[role.pairs])
        held = {row["id"]: self.holders[self.cluster[row["id"]]] - friends for row in fits}
        free = fits if role.n == "published" else [row for row in fits if not held[row["id"]]]
        ordered = _ordered(role, free, seed, matched_keys(role, self.roles.values(), self.rows_by_source))
        taken = ordered[: role.n] if isinstance(role.n, int) else ordered
        counts = {
            "wanted": role.n,
            "fitting": len(fits),
            "dropped": len(fits) - len(free),
            "repeated": len(free) - len(ordered),
            "taken": len(taken),
        }
        if not taken or (isinstance(role.n, int) and len(taken) < role.n):
            holders = Counter(name for row in fits for name in held[row["id"]])
            raise RoleError(_unfilled(role, self.rows_by_source, counts, holders))
        self.hold(role, taken)
        return [_labelled(role, row) for row in taken], counts


def assign_judges(
    rows_by_source: Mapping[str, Sequence[Mapping]], roles: Mapping[str, Mapping], seed: int, threshold: float
) -> Assignment:
    """Prompts of the judges' roles: those of the study, whatever its runs draw.

    They keep out of every cluster from which a role of kind evaluation could draw, in any run, and of published roles.
    Arguments and errors as in `assign`; `seed` is the study's.
    """
    draw = _Draw(rows_by_source, roles, threshold)
    for role in draw.roles.values():
        if role.kind == "evaluation" or role.n == "published":
            draw.hold(role, draw.fitting(role))
    served = {role.name: draw.serve(role, seed, {}) for role in draw.roles.values() if role.kind == "judge"}
    return Assignment({name: rows for name, (rows, _) in served.items()}, {name: n for name, (_, n) in served.items()})


def assign(
    rows_by_source: Mapping[str, Sequence[Mapping]],
    roles: Mapping[str, Mapping],
    seed: int,
    threshold: float,
    judges: Mapping[str, Sequence[Mapping]] | None = None,
) -> Assignment:
    """Give every role its prompts. Roles come back in the order of `roles`; see the module's docstring for the rule.

    `rows_by_source` maps a source to rows of `files.read_prompts` with a `label`; `judges`: rows of the judges' roles,
    which stand before (None: `assign_judges` draws them, with this seed). Raises RoleError when a role cannot be
    filled, or an id stands for two prompts. The result depends on nothing but the arguments.
    """
    draw = _Draw(rows_by_source, roles, threshold)
    rows, counts = dict(judges or {}), {}
    if judges is None:
        drawn = assign_judges(rows_by_source, roles, seed, threshold)
        rows, counts = dict(drawn.rows), dict(drawn.counts)
    for name, held in rows.items():
        draw.hold(draw.roles[name], held)
    for role in service_order(draw.roles):
        rows[role.name], counts[role.name] = draw.serve(role, seed, rows)
    return Assignment({name: rows[name] for name in roles}, {name: counts[name] for name in roles if name in counts})


def matched_keys(role: Role, roles: Iterable[Role], rows_by_source: Mapping[str, Sequence[Mapping]]) -> set:
    """Keys of the role's prompts for which a role that `pairs` with it has a match."""
    sources = [source for other in roles if other.pairs == role.name for source in other.sources]
    return {row.get("pair") for source in sources for row in rows_by_source[source]} - {None}


def _matched(rows: Sequence[Mapping], drawn: Sequence[Mapping]) -> list[Mapping]:
    """The rows whose match is among those drawn, with the id of the match as `pair`."""
    ids = {row["key"]: row["id"] for row in drawn if "key" in row}
    return [{**row, "pair": ids[row["pair"]]} for row in rows if row.get("pair") in ids]


def _ordered(role: Role, rows: Sequence[Mapping], seed: int, first_keys: Set = frozenset()) -> list[Mapping]:
    """The role's own order, each normalised prompt once; with `balance` the field's values take turns.

    Prompts with a key among `first_keys` come before all others, of each value of `balance`."""
    order = sorted(
        rows,
        key=lambda row: (
            row.get("key") not in first_keys,
            hashlib.sha256(f"{seed}|{role.name}|{row['id']}".encode()).hexdigest(),
            row["id"],
        ),
    )
    first: dict[str, Mapping] = {}
    for row in order:
        first.setdefault(normalise(row["prompt"]), row)
    unique = list(first.values())
    if role.balance is None:
        return unique
    if not any(role.balance in row for row in unique):
        raise RoleError(f"roles.{role.name}.balance: no prompt of {', '.join(role.sources)} has a field {role.balance}")
    turn, turns = Counter(), []
    for place, row in enumerate(unique):
        value = str(row.get(role.balance))
        turns.append((turn[value], place))
        turn[value] += 1
    return [unique[place] for _, place in sorted(turns)]


def _labelled(role: Role, row: Mapping) -> dict:
    if row.get("label") not in LABELS:
        raise RoleError(
            f"source {row['source']}: prompt {row['id']} has no label; set sources.{row['source']}.label to {LABELS}"
        )
    first = {
        "id": row["id"],
        "role": role.name,
        "label": row["label"],
        "source": row["source"],
        "prompt": row["prompt"],
    }
    return first | {key: value for key, value in row.items() if key not in first}


def _unfilled(role: Role, rows_by_source: Mapping, counts: Mapping, held: Counter) -> str:
    total = sum(len(rows_by_source[source]) for source in role.sources)
    text = (
        f"roles.{role.name}: {counts['wanted']} prompts wanted, {counts['taken']} available"
        f" ({total} in {', '.join(role.sources)}"
    )
    if role.filter:
        text += f", {counts['fitting']} fit the filter"
        for field, values in role.filter.items():
            seen = sorted({str(row.get(field)) for source in role.sources for row in rows_by_source[source]})
            text += f" {field}={list(values)} (values: {seen[:12]})"
    if held:
        text += f", {counts['dropped']} belong with prompts held by " + ", ".join(
            f"{n} ({c})" for n, c in held.most_common()
        )
    return text + f"); lower roles.{role.name}.n or that of the roles before it, or add a source"
