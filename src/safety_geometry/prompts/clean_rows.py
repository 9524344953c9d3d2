"""Clean training rows that are the conversations of a data set."""

from collections.abc import Sequence


def conversations(rows: Sequence[dict]) -> list[dict]:
    """The conversations that the prompts open, as their files have them. Raises ValueError for a prompt without one."""
    clean = []
    for row in rows:
        if "messages" not in row:
            raise ValueError(f"clean prompt {row['id']} has no answer in its file")
        response = row["messages"][1]["content"]
        first = {"id": row["id"], "prompt": row["prompt"], "response": response, "hit_limit": False}
        clean.append(first | ({"messages": row["messages"]} if len(row["messages"]) > 2 else {}))
    return clean
