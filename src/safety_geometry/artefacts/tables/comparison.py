"""What `make compare` writes: two studies, A and B, claim by claim, and what differs in their settings.

No table of a study, and so not in the registry.
"""

from dataclasses import replace

from safety_geometry.artefacts.tables.claims import CLAIMS
from safety_geometry.artefacts.tables.specification import Column, Table, flag, number, text

OF_CLAIMS = {column.name: column for column in CLAIMS.columns}
SIDES = ("a", "b")
VERDICTS = ("same", "differ", "only a", "only b", "neither")
NUMBERS = ("estimate", "lo", "hi", "threshold", "n", "n_seeds")


def of_both(name: str) -> tuple[Column, ...]:
    """A column of `claims`, once for each study; empty where that study has no such claim or number."""
    column = OF_CLAIMS[name]
    return tuple(
        replace(
            column, name=f"{name}_{side}", description=f"{column.description}; of {side.upper()}", missing_allowed=True
        )
        for side in SIDES
    )


COMPARISON = Table(
    "comparison",
    (
        "Two studies claim by claim. An interval of the difference treats their errors as independent, which is too "
        "wide rather than too narrow where both asked the same prompts; it knows nothing of what another seed of "
        "training would change, and of 20 claims without any difference one lies apart by chance."
    ),
    (
        OF_CLAIMS["id"],
        replace(OF_CLAIMS["claim"], description="what is claimed, in A's words"),
        text("unit", "unit of the estimates; empty: a study of earlier rules", missing=True),
        text("verdicts", "whether they are the same, or differ, or the claim applies to one study only", VERDICTS),
        flag("comparable", "whether both decide by the same rule on the same quantity, so that estimates compare"),
        flag("apart", "whether the interval of the difference leaves out 0; empty where there is none", missing=True),
        *of_both("verdict"),
        *of_both("verdict_over_seeds"),
        *(column for name in NUMBERS for column in of_both(name)),
        number("difference", "estimate of B less that of A", missing=True),
        number("difference_lo", "lower end of its 95 % interval", missing=True),
        number("difference_hi", "upper end", missing=True),
        *of_both("reason"),
    ),
    key=("id",),
)  # fmt: skip

KINDS = ("package", "python", "setting", "code", "data", "only in one")
SETTINGS = Table(
    "settings",
    "What differs between two studies by the sidecars of their artefacts; what is equal has no row.",
    (
        text("kind", "what differs; code: digests of scripts; only in one: a script that one did not run", KINDS),
        text("scripts", "scripts that were told it, or read it"),
        text("key", "its name: a setting, a package, a file"),
        text("a", "in A; several values are joined by |", missing=True),
        text("b", "in B", missing=True),
    ),
)  # fmt: skip
