"""The claims, their rules and their margins in words: the text of docs/claims.md."""

from collections.abc import Iterable, Sequence

from safety_geometry.claims.catalogue import CONFIGURATIONS, SWEPT, Claim, claims_for
from safety_geometry.claims.margins import MARGINS
from safety_geometry.claims.rules import REACHABLE

REFUSER = "aligned"  # regime of configs/aligned.yaml
HEAD = """# Claims

Made from `src/safety_geometry/claims` by `PYTHONPATH=src python workflow/scripts/claim_docs.py`; do not edit by hand.
All of it was fixed before the reference run. `tables/claims.csv` has the numbers of a run, and
[protocol.md](protocol.md#claims) the equations.

## Verdicts

| verdict | when |
|---|---|
| holds | the interval lies on the claimed side |
| fails | the opposite is shown |
| no effect | the 90 % interval lies within ±Δ (equivalence, two one-sided tests at 5 %): too little to matter |
| inconclusive | the interval is too wide to tell; `n_decides` says what n would do if the estimate stayed |
| not applicable | it needs what the study lacks: a chosen R, a regime, a sweep, an arm of attack. Counted apart |

`verdict` is for these seeds: prompts are resampled within each seed, and the distances of the seeds' interval ends
from their values add in squares. `verdict_over_seeds` is for seeds like them: Student's interval over the seeds'
values, never narrower than the other. No seed has a veto. What has no interval below a seed (layers of H, ranks,
angles) has the second interval only.

Quantities are signed so that a claim says they are large.

Where the judge of harm does not order answers that are neither refused nor broken, success is no more than *not
refused*: claims that rest on it say so (`success_means`), and those on usefulness are not applicable.
"""
RULES = {
    "difference": "no effect within ±Δ; else holds above τ (0 where nothing is said), fails below −τ",
    "level": "holds above τ, fails below it",
    "constant": "the claim is that there is no change: holds where the 90 % interval lies within ±Δ, fails where the "
    "95 % interval lies wholly outside",
}
GATES = """
Beside the interval stand, for some: a permutation p below .05 (Holm over a regime's primary cells; edits of carriers),
Δ beyond the best of as many shuffled directions (edits of R), first differences that say the same (time series: two
trends always correlate), attacks that beat their unoptimised arm (fixed-source attacks and transfer), fewer refusals
than beside each of at least ten random directions (`aligned_r_refuses`: the nearest of them decides). A gate that n
cannot pass makes a claim not applicable, and never silently inconclusive.

Checkpoints are named before the run: *early* is the first step from R2D2's reference on at which both regimes have an
anchor, *late* the last one; changes in time are of a regime's last anchor against its reference. Coupling is read at
the sites of the reference anchor, or at common layers.
"""


def document() -> str:
    rules = table(("rule", "verdicts beside inconclusive", "reads"), (
        (name, ", ".join(verdict for verdict in REACHABLE[name] if verdict != "inconclusive"), words)
        for name, words in RULES.items()
    ))  # fmt: skip
    margins = table(("quantity", "unit", "Δ", "resampled over", "why"), (
        (f"`{name}`", q.unit, f"{q.margin:g}" if q.margin else "–", q.per, q.reason) for name, q in MARGINS.items()
    ))  # fmt: skip
    return "\n".join([
        HEAD, "## Rules\n", rules, GATES, "## Margins\n", margins, "",
        "## Claims and who decides them\n",
        "`make power CONFIG=…` says the same of any configuration, with its n, before it is run. A study by another "
        "name counts every claim that applies to it.\n", claims(), "",
    ])  # fmt: skip


def claims() -> str:
    regimes = (*SWEPT, REFUSER)
    return table(
        ("id", "claim", "source", "rule", "quantity", "Δ", *CONFIGURATIONS, "direct twin"),
        (line(claim) for claim in claims_for(regimes, regimes)),
    )


def line(claim: Claim) -> Sequence[str]:
    decides = ("yes" if name in claim.decided_by else "" for name in CONFIGURATIONS)
    margin = f"{claim.scale.margin:g}" if claim.scale.margin else "–"
    twin = f"`{claim.twin}`" if claim.twin else ""
    return f"`{claim.id}`", claim.claim, claim.source, claim.rule, f"`{claim.quantity}`", margin, *decides, twin


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; bars in cells are escaped."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines])
