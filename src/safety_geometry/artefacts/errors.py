"""What readers raise."""


class ArtefactError(ValueError):
    """A file is not what its kind promises; one sentence with file and fix."""
