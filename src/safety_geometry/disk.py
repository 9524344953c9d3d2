"""A disk that is full, whoever says so."""

import errno
import re

FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_full(error: BaseException) -> bool:
    """Whether `error` says that the disk, or the user's share of it, is full; safetensors says it as a text of its own."""
    if isinstance(error, OSError):
        return error.errno in FULL
    said = re.search(r"\(os error (\d+)\)", str(error))
    return said is not None and int(said[1]) in FULL
