"""Which arguments for Snakemake leave out a part of the study, so that no report belongs to them."""

import pytest
from asked import only_looks, whole_study


@pytest.mark.parametrize(
    "arguments",
    ["", "--sdm conda", "--sdm conda --conda-prefix envs", "--retries 1 -k", "--config seeds=[42]", "--jobs 3 --notemp", "--forceall",
     "--rerun-triggers mtime params", "--resources gpu=1"],
)  # fmt: skip
def test_the_whole_study(arguments):
    assert whole_study(arguments.split())


@pytest.mark.parametrize(
    "arguments",
    ["results/default/tables/five_anchor.csv", "--sdm conda -- training_table", "-n", "--dry-run", "--until prompt_sets",
     "-U prompt_sets", "--omit-from claims", "--batch all=1/2", "--touch", "--sdm conda --conda-create-envs-only", "--unlock",
     "--lint", "--summary", "--rulegraph", "--report other.html", "--resources gpu=1 --retries 1 all_of_it"],
)  # fmt: skip
def test_a_part_or_nothing(arguments):
    assert not whole_study(arguments.split())


@pytest.mark.parametrize(
    "arguments", ["-n", "--sdm conda --dry-run", "--unlock", "--report a.html", "--summary", "--rulegraph", "--lint"]
)
def test_what_may_go_beside_a_run(arguments):
    assert only_looks(arguments.split())


@pytest.mark.parametrize(
    "arguments", ["", "claims", "--touch", "--forceall", "--until tables", "--delete-all-output", "--sdm conda --conda-create-envs-only"]
)  # fmt: skip
def test_what_may_not(arguments):
    assert not only_looks(arguments.split())
