"""The report's first page and captions: links to what a study shows, words for what it does not, no broken markup."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

from safety_geometry.artefacts.tables.registry import FINAL

PAGES = Path(__file__).parents[2] / "workflow/report"
SHOWN = ["claims.csv", "five_anchor.svg", "coupling_controls.svg", "leakage.csv"]


JOB = SimpleNamespace(config={"study": "mine"}, params=SimpleNamespace(caption="What it shows."))
CAPTIONS = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.rst"))}
CAPTIONS |= {table.name: table.caption for table in FINAL.values()}


def page(name: str, shown: list[str]) -> str:
    """A page as the report renders it: with a target for each result that it shows."""
    files = [SimpleNamespace(target=target) for target in shown]
    text = Environment(undefined=StrictUndefined).from_string(CAPTIONS[name])
    text = text.render(files=files, categories={}, snakemake=JOB)
    targets = "".join(f"\n.. _{target}: javascript:app.showResultInfo('{target}')\n" for target in shown)
    return publish_parts(text + "\n" + targets, writer_name="html", settings_overrides={"report_level": 2})["html_body"]


@pytest.mark.parametrize("shown", [SHOWN, []], ids=["some", "none"])
def test_the_first_page_links_what_is_shown_first(shown):
    body = page("workflow.rst", shown)
    assert "system-message" not in body and "Study mine" in body
    assert body.count("showResultInfo") >= len(shown)
    if shown:
        assert body.index("claims.csv") < body.index("five_anchor.svg") < body.index("Stages")
    assert "<em>training_curves</em>" in body  # named, though this study has none


@pytest.mark.parametrize("name", CAPTIONS)
def test_captions_are_sound_markup(name):
    assert "system-message" not in page(name, SHOWN)


def test_the_stylesheet_puts_the_text_before_the_graph():
    style = (PAGES / "report.css").read_text(encoding="utf-8")
    assert "#rulegraph" in style and "flex-wrap: wrap" in style
    assert "report.css" in (PAGES.parent / "run.py").read_text(encoding="utf-8")
