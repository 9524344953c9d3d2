"""What training did: losses, the attacked pool, and refusal of the monitor prompts."""

import pandas as pd
from matplotlib.figure import Figure

from safety_geometry.figures.style import across_seeds, draw, headline, looks, need, seeds_note

PLAIN = {"marker": "None"}


def training_curves(tables: dict[str, pd.DataFrame]) -> Figure:
    """Four panels over optimiser steps: clean loss; away and toward losses; attack loss of the drawn pool cases before and
    after their update; refusal of monitor prompts. Needs training."""
    frame = need(tables, "training", ["clean", "refusal_harmful", "refusal_benign"])
    figure = Figure(figsize=(9.6, 6.6))
    clean, pair, pool, monitor = figure.subplots(2, 2).ravel()
    for regime, look in looks(frame["regime"]).items():
        rows, line = frame[frame["regime"] == regime], {"color": look["color"]} | PLAIN
        curve(clean, rows, "clean", line | {"linestyle": "-"}, label=regime)
        for ax, columns in ((pair, ("away", "toward")), (pool, ("pool_before", "pool_after"))):
            for column, style in zip(columns, ("-", ":"), strict=True):
                frozen = column == "pool_after" and rows["pool_after"].equals(rows["pool_before"])
                if rows[column].notna().any() and not frozen:
                    curve(
                        ax, rows, column, line | {"linestyle": style}, label=f"{regime}, {column.replace('pool_', '')}"
                    )
        for column, style in (("refusal_harmful", "-"), ("refusal_benign", ":")):
            name = f"{regime}, {column.removeprefix('refusal_')}"
            curve(
                monitor,
                rows,
                column,
                {"color": look["color"], "marker": look["marker"], "linestyle": style},
                label=name,
            )
    titles = (
        (clean, "Clean rows", "cross-entropy (nats per token)"), (pair, "Away and toward losses on attacked cases", "loss (nats per token)"),
        (pool, "Attack loss of the drawn pool cases", "target cross-entropy (nats per token)"),
        (monitor, "Refusal of monitor prompts", "share refused"),
    )  # fmt: skip
    for ax, title, label in titles:
        ax.set_title(title)
        ax.set_ylabel(label)
        ax.set_xlabel("optimiser step")
        if ax.lines:
            ax.legend(loc="best", ncols=2 if len(ax.lines) > 4 else 1)
        else:
            ax.text(0.5, 0.5, "no regime trains on attacked cases", transform=ax.transAxes, ha="center")
    for ax in (clean, pair, pool):
        ax.set_ylim(bottom=0)
    monitor.set_ylim(-0.04, 1.5)
    monitor.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    headline(figure, "Training", seeds_note(frame))
    return figure


def curve(ax, rows: pd.DataFrame, column: str, look: dict, **extra) -> None:
    draw(ax, across_seeds(rows, "step", column), look, **extra)
