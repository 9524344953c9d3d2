"""Text files that users give, read for a job."""

from pathlib import Path

from _job import JobError

from safety_geometry.text_files import TextFileError, read_text


def text_of(path: Path) -> str:
    """Raises JobError when the file is missing, a folder, empty or not text in UTF-8."""
    try:
        text = read_text(path)
    except TextFileError as error:
        raise JobError(f"{path}: {error}") from error
    if not text.strip():
        raise JobError(f"{path}: the file is empty")
    return text
