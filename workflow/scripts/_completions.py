"""The names by which the scripts of the sweeps know models/answers.py."""

from _job import read_jsonl
from _model import said

from safety_geometry.models import answers
from safety_geometry.models.answers import Asked, completion_row  # noqa: F401


def read_suites(suites, paths) -> list[Asked]:
    return answers.first_rows(suites, map(read_jsonl, paths))


def answer_cells(*arguments) -> list[dict]:
    with said():
        return answers.answer_cells(*arguments)
