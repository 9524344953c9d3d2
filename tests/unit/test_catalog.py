"""What Snakemake's catalog asks of a workflow: https://github.com/snakemake/snakemake-workflow-catalog."""

import re
from pathlib import Path

import pytest
import yaml
from pipeline.config_file import read_study
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]


def test_the_catalog_finds_its_files():
    assert (ROOT / "workflow/Snakefile").is_file() and (ROOT / "config/README.md").is_file()
    assert any((ROOT / "workflow/rules").glob("*.smk"))
    assert re.search("snakemake", (ROOT / "README.md").read_text(), re.I)
    assert re.search("workflow", (ROOT / "README.md").read_text(), re.I)


def test_the_usage_says_what_works():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": False, "apptainer+conda": False}
    assert usage["report"] is True and set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    options = get_argument_parser(profiles=[]).parse_args(usage["mandatory-flags"]["flags"].split())
    profile = yaml.safe_load((ROOT / "profiles/default/profile.yaml").read_text())
    assert {str(trigger) for trigger in options.rerun_triggers} == set(profile["rerun-triggers"])


def test_what_snakedeploy_copies_is_a_study():
    assert read_study(ROOT / "config/config.yaml").config["study"] == "my-study"
    whole = (ROOT / "config/config.yaml").read_text()
    examples = re.sub("^# (?=[ a-z])", "", whole, flags=re.M)
    assert {"seeds", "refusal", "sources", "checkpoints"} <= set(yaml.safe_load(examples.split("it here:\n")[1]))


@pytest.mark.parametrize("page", ["config/README.md"])
def test_the_page_links_to_files_that_exist(page):
    links = re.findall(r"\]\(([\w./-]+)\)", (ROOT / page).read_text())
    assert links and [link for link in links if not ((ROOT / page).parent / link).exists()] == []
