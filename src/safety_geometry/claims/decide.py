"""Verdicts on the claims from a study's tables: for these seeds, and for seeds like them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import pandas as pd

from safety_geometry.artefacts.tables import claims as specified
from safety_geometry.claims.catalogue import CONFIGURATIONS, TUNED, Claim, claims_of
from safety_geometry.claims.evidence import Evidence
from safety_geometry.claims.rules import (
    DECIDED,
    NOT_APPLICABLE,
    NotApplicable,
    Outcome,
    Undecidable,
    judged,
    not_applicable,
    over_seeds_only,
    undecided,
)
from safety_geometry.claims.success import meaning, only_not_refused, rests_on_usefulness, worded
from safety_geometry.stats.pooling import Estimate


def claims_table(
    tables: Mapping[str, pd.DataFrame], tuned: Collection[str] = TUNED, configuration: str | None = None
) -> pd.DataFrame:
    """One row per claim from the tables of a study (`claim_tables` of the workflow lists them), of all seeds.

    tuned: ids of claims that hyper-parameters were chosen for. configuration: name of the study; one of CONFIGURATIONS
    decides the claims that say so, any other one all that apply to it. Raises ValueError when `tuned` names no claim.
    """
    claims = claims_of(tables)
    if unknown := set(tuned) - {claim.id for claim in claims}:
        raise ValueError(f"tuned: no claim {', '.join(sorted(unknown))}")
    evidence, n_seeds = Evidence(tables), tables["five_anchor"]["seed"].nunique()
    rows = []
    for claim in claims:
        outcome = decided(claim, evidence, n_seeds)
        applies = outcome.verdict != NOT_APPLICABLE
        decides = configuration not in CONFIGURATIONS or configuration in claim.decided_by
        means = meaning(claim.id, claim.quantity, tables)
        words = {name: getattr(claim, name) for name in ("id", "source", "rule", "twin")}
        words |= {"claim": worded(claim.claim, means), "success_means": means}
        words |= {"quantity": claim.quantity, "unit": claim.scale.unit}
        marks = {"n_seeds": n_seeds, "tuned": claim.id in tuned, "decidable": applies and decides}
        rows.append(words | vars(outcome) | marks)
    table = pd.DataFrame(rows)
    return table.assign(twin=table["twin"].where(table["twin"] != "", None))[specified.CLAIMS.names]


def decided(claim: Claim, evidence: Evidence, n_seeds: int) -> Outcome:
    """Outcome of a claim; of a study of several seeds it says so where only some of them have what it takes."""
    if rests_on_usefulness(claim.id, claim.quantity) and (reason := only_not_refused(evidence.tables)):
        return not_applicable(reason)
    try:
        measured = claim.measure(evidence)
        known = {seed: estimate for seed, estimate in measured.by_seed.items() if math.isfinite(estimate.value)}
        if not known:
            return not_applicable(f"{measured.what}: no seed has a value")
        measured = replace(measured, by_seed=known)
        outcome = judged(claim.rule, measured, claim.scale.margin)
        if measured.interval is None:
            return replace(outcome, reason="; ".join([outcome.reason, *of_the_seeds(known, n_seeds)]))
        return outcome
    except NotApplicable as reason:
        return not_applicable(str(reason))
    except Undecidable as reason:
        return over_seeds_only(undecided(str(reason)), n_seeds)


def of_the_seeds(by_seed: Mapping[int, Estimate], n_seeds: int) -> list[str]:
    """What one pooled number hides: seeds that lack it, and seeds whose own intervals have no value in common."""
    said = [f"{len(by_seed)} of {n_seeds} seeds have it"] if len(by_seed) < n_seeds else []
    ends = [(each.lo, each.hi) for each in by_seed.values() if math.isfinite(each.lo) and math.isfinite(each.hi)]
    if len(ends) > 1 and max(lo for lo, _ in ends) > min(hi for _, hi in ends):
        said.append("the seeds lie apart (by_seed)")
    return said


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Of a claims table: how many apply, are decidable by this configuration, are decided, and of each verdict."""
    verdicts = table["verdict"]
    decidable = table[table["decidable"].astype(bool)]
    return {
        "claims": len(table),
        "applicable": int((verdicts != NOT_APPLICABLE).sum()),
        "decidable": len(decidable),
        "decided": int(decidable["verdict"].isin(DECIDED).sum()),
        "decided over seeds": int(decidable["verdict_over_seeds"].isin(DECIDED).sum()),
        **{verdict: int(n) for verdict, n in verdicts.value_counts().items()},
    }
