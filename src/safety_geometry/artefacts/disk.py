"""Places on the disk: folders that are made, files that go, and a disk that is full, whoever says so."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from safety_geometry.artefacts.errors import ArtefactError

FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_full(error: BaseException) -> bool:
    """Whether `error` says that the disk, or the user's share of it, is full; safetensors says it as a text of its own."""
    if isinstance(error, OSError):
        return error.errno in FULL
    said = re.search(r"\(os error (\d+)\)", str(error))
    return said is not None and int(said[1]) in FULL


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises ArtefactError when the disk gets full while `path` is written, or its folder cannot be written to."""
    try:
        yield
    except Exception as error:
        if disk_full(error):
            raise ArtefactError(f"no space left on the disk while writing {path}; free some and run again") from error
        refused = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if refused and path.parent in Path(error.filename or path).parents:
            raise ArtefactError(f"{path.parent} cannot be written to ({error.strerror}); make it writable") from error
        raise


def make_folder(folder: Path) -> None:
    """Raises ArtefactError when a file stands in its way, or its place cannot be written to."""
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocking = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        raise ArtefactError(f"{blocking} is a file where a folder has to be; move it away and run again") from error


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
