"""`make run` with options for Snakemake: the report belongs to the whole study, and to nothing less."""

import pytest
from harness import SMOKE, command

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "reported"),
    [(["--retries", "1"], True), (["results/smoke/tables/leakage.csv"], False), (["--until", "tables"], False),
     (["--retries", "1", "--no-report"], False)],
)  # fmt: skip
def test_the_report_is_made_with_the_whole_study(study, options, reported):
    report = study / "results/smoke/report.html"
    report.unlink()
    done = command(study, "workflow/run.py", "--configfile", SMOKE, "--cores", "2", *options)
    assert done.returncode == 0, done.stdout[-4000:]
    assert report.exists() is reported
