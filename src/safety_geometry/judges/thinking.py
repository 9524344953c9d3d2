"""What a model that thinks aloud answers: the text after its thought."""

import re

_NAMES = r"(?:think|thinking|thought|reasoning)"
_OPENS = re.compile(rf"^[ \t]*(?:<{_NAMES}>|\[THINK\])", re.IGNORECASE | re.MULTILINE)
_CLOSES = re.compile(rf"(?:</{_NAMES}>|\[/THINK\])", re.IGNORECASE)


def answer_of(text: str) -> str:
    """The answer in what a model wrote: what follows the last `</think>`, and the whole text where no thought was
    opened.

    A thought that is not finished is no answer: nothing of it is returned, and "" where nothing but the thought was
    written. A `</think>` without an opening ends a thought that the prompt opened. An opening counts at the start of a
    line only, so that an answer may speak of the mark.
    """
    ends = [match.end() for match in _CLOSES.finditer(text)]
    rest = text[ends[-1] :] if ends else text
    opened = _OPENS.search(rest)
    answer = rest[: opened.start()] if opened else rest
    return answer.strip() if ends or opened else text
