"""docs/claims.md says what the code says."""

from pathlib import Path

from safety_geometry.claims.catalogue import CLAIMS, SWEPT, sweep_claims
from safety_geometry.claims.document import document
from safety_geometry.claims.margins import MARGINS

TEXT = (Path(__file__).resolve().parents[2] / "docs/claims.md").read_text(encoding="utf-8")


def test_documentation_is_in_sync():
    assert document() == TEXT, "run PYTHONPATH=src python workflow/scripts/claim_docs.py"


def test_every_margin_and_every_claim_stands_there_with_its_reason():
    for name, quantity in MARGINS.items():
        assert f"| `{name}` | " in TEXT and quantity.reason.strip() and quantity.reason.replace("|", "\\|") in TEXT
    for claim in (*CLAIMS, *(claim for regime in SWEPT for claim in sweep_claims(regime))):
        assert f"| `{claim.id}` | {claim.claim} |" in TEXT
