"""The answer of a model that thinks aloud first: what follows its `</think>`."""

OPEN, CLOSE = "<think>", "</think>"


def answer_of(text: str) -> str:
    """What follows the last `</think>`; the whole text where no block was opened, and "" for an unfinished thought.

    A `</think>` without its opening ends a thought as well: a chat template may have opened it in the prompt.
    """
    before, end, answer = text.rpartition(CLOSE)
    if OPEN in answer:
        return ""
    return answer.strip() if end else text
