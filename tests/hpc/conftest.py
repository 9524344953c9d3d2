"""A SLURM of one node for a session of tests; without SLURM, munge and root they are skipped."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))  # test_environments.py
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))  # harness.py, plans.py
from slurm_node import missing, slurm_node


@pytest.fixture(scope="session")
def node(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Environment variables that lead to the node."""
    if lacking := missing():
        pytest.skip(f"SLURM tests need {', '.join(lacking)}: tests/hpc/install_slurm.sh installs it on Debian, as root")
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="no SLURM executor: make cluster-install")
    with slurm_node(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables
