"""Published judges, asked one after the other: two of them together are more than a GPU may hold."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from safety_geometry.artefacts.completions import request
from safety_geometry.judges.judging import make_judge
from safety_geometry.judges.thinking import answer_of


@dataclass(frozen=True)
class Said:
    """A published judge by what it has said of the very rows that are asked about."""

    name: str
    table: pd.DataFrame
    needs_topic: bool = False

    def __call__(self, requests: Sequence[str], responses: Sequence[str]) -> pd.DataFrame:
        return self.table


@dataclass(frozen=True)
class Published:
    """HarmBench's or StrongREJECT's judge: its folder, and the base model's where that is an adapter, and the wording
    of its prompts (None: its own; `contextual_template`: for rows with a context)."""

    name: str
    folder: Path
    base: Path | None = None
    template: str | None = None
    contextual_template: str | None = None

    def says(
        self, rows: Mapping[Hashable, Sequence[dict]], size, device: str = "cpu", dtype: str = "float32"
    ) -> dict[Hashable, Said]:  # fmt: skip
        """What it says of completions, by the names of their files; nothing of empty ones. The model is loaded and
        freed.

        size: `BatchSize` of its passes. Raises ValueError for what it cannot be asked.
        """
        rows = {name: of_file for name, of_file in rows.items() if of_file}
        if not rows:
            return {}
        import torch  # seconds, and only the published judges need it

        from safety_geometry.judges.hub import load_model
        from safety_geometry.models.memory import release

        base = None if self.base is None else str(self.base)
        model, tokenizer = load_model(str(self.folder), base=base, device=device, dtype=getattr(torch, dtype))
        settings = {
            key: getattr(self, key) for key in ("template", "contextual_template") if getattr(self, key) is not None
        }
        if self.name == "harmbench":
            settings["contexts"] = contexts(row for of_file in rows.values() for row in of_file)
        judge = make_judge(self.name, model=model, tokenizer=tokenizer, batch_size=size, **settings)
        said = {}
        for name, of_file in rows.items():
            answers = [answer_of(row["completion"]) for row in of_file]
            try:
                said[name] = Said(judge.name, judge([request(row) for row in of_file], answers))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        del model, judge
        release()
        return said


def contexts(rows) -> dict[str, str]:
    """Context by request, of the rows that have one."""
    return {request(row): row["context"] for row in rows if row.get("context")}
