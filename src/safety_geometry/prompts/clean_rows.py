"""Clean training rows whose answers the data has: conversations of a data set, or an answer beside the prompt."""

from collections.abc import Sequence


def conversations(rows: Sequence[dict]) -> list[dict]:
    """The conversations that the prompts open, as their files have them (`messages`, or `answer`).

    Raises ValueError for a prompt without one.
    """
    clean = []
    for row in rows:
        messages = row.get("messages", ())
        response = messages[1]["content"] if messages else row.get("answer")
        if not response:
            raise ValueError(f"clean prompt {row['id']} has no answer in its file")
        first = {"id": row["id"], "prompt": row["prompt"], "response": response, "hit_limit": False}
        clean.append(first | ({"messages": messages} if len(messages) > 2 else {}))
    return clean
