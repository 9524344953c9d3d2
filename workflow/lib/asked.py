"""What arguments for Snakemake ask for."""

from collections.abc import Sequence

# Attributes of Snakemake's own parser. Whatever else is given (conda environments, retries, a scheduler) runs the whole study.
PARTS = ("targets", "until", "omit_from", "batch", "target_jobs", "allowed_rules")
LOOKS = (
    "dryrun", "unlock", "list_conda_envs", "lint", "summary", "detailed_summary", "dag", "rulegraph", "filegraph", "d3dag", "list_rules",
    "list_target_rules", "list_changes", "list_input_changes", "list_params_changes", "list_untracked", "report", "print_compilation",
)  # fmt: skip
NO_RUN = (
    *LOOKS, "touch", "conda_create_envs_only", "conda_cleanup_envs", "archive", "cleanup_metadata", "cleanup_shadow", "delete_all_output",
    "delete_temp_output", "generate_unit_tests", "containerize", "export_cwl",
)  # fmt: skip


def whole_study(arguments: Sequence[str]) -> bool:
    """Whether Snakemake, given these besides the configuration, makes all tables and figures: no targets and no option that runs
    a part or nothing."""
    return not _given(arguments, PARTS + NO_RUN)


def only_looks(arguments: Sequence[str]) -> bool:
    """Whether Snakemake, given these, starts no job and writes no result, so that it may go beside a run: a dry run, a report."""
    return _given(arguments, LOOKS)


def _given(arguments: Sequence[str], names: Sequence[str]) -> bool:
    if not arguments:
        return False
    from snakemake.cli import get_argument_parser  # seconds, and mostly there are no arguments

    asked, _ = get_argument_parser().parse_known_args(list(arguments))
    return any(getattr(asked, name) for name in names)
