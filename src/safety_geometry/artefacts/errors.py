"""What readers of artefacts raise."""


class ArtefactError(ValueError):
    """A file is not what its kind promises. One plain line: which file, what is wrong with it, and what to do."""
