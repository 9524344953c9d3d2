"""All tables by name: those that a study ends in, and those within a run."""

from safety_geometry.artefacts.tables import (
    attacks,
    behaviour,
    causal,
    checks,
    claims,
    dense,
    directions,
    follow_up,
    geometry,
    reply_inversion,
    sampled,
    training,
    working,
)
from safety_geometry.artefacts.tables.specification import Table

GROUPS = (
    attacks, behaviour, causal, checks, claims, dense, directions, follow_up, geometry, reply_inversion, sampled, training,
)  # fmt: skip
FINAL: dict[str, Table] = {table.name: table for group in GROUPS for table in group.TABLES}
WORKING: dict[str, Table] = {table.name: table for table in working.TABLES}
TABLES = FINAL | WORKING
