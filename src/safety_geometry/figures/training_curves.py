"""What training did: losses, the attacked pool, and refusal of the monitor prompts."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safety_geometry.figures.lettering import headline, label_ends, title
from safety_geometry.figures.notes import seeds_note, stated_prompts
from safety_geometry.figures.style import across_seeds, draw, looks, need

LOSS = "loss (nats per token)"
PANELS = (  # column, title, label of the axis, whose number of prompts
    ("clean", "Clean rows", "cross-entropy (nats per token)", None),
    ("away", "Away loss on attacked cases", LOSS, None),
    ("toward", "Toward loss on attacked cases", LOSS, None),
    ("pool_before", "Attack loss of the drawn cases", "target cross-entropy (nats)", None),
    ("refusal_harmful", "Harmful monitor prompts", "share refused", "monitor"),
    ("refusal_benign", "Benign monitor prompts", "share refused", "monitor"),
)
WIDE, STEP = (
    3.8,
    1.3,
)  # points: the first regime's line is the widest, so that one below another still shows at both sides
DASHES = (0, (2.5, 3))  # with gaps in which a line below shows


def training_curves(tables: dict[str, pd.DataFrame]) -> Figure:
    """Six panels over optimiser steps: clean, away and toward loss; attack loss of the drawn pool cases, shaded down to
    what it is after their update; refusal of monitor prompts. Needs training; prompts, where given, tells their
    number."""
    frame = need(tables, "training", ["clean", "refusal_harmful", "refusal_benign"])
    styles = looks(frame["regime"])
    figure = Figure(figsize=(12.0, 6.4))
    ends: dict[Axes, list] = {}
    for ax, (column, words, label, role) in zip(figure.subplots(2, 3).ravel(), PANELS, strict=True):
        ends[ax] = []
        for i, (regime, look) in enumerate(styles.items()):
            rows = frame[frame["regime"] == regime]
            points = across_seeds(rows, "step", column)
            if not len(points):
                continue
            marker = look["marker"] if role else "None"
            line = DASHES if look["linestyle"] == "--" else look["linestyle"]
            style = {"marker": marker, "linewidth": max(WIDE - STEP * i, 1.2), "linestyle": line}
            draw(ax, points, look | style, zorder=2 + 0.1 * i)
            if column == "pool_before" and not rows["pool_after"].equals(rows["pool_before"]):
                after = across_seeds(rows, "step", "pool_after").set_index("x")["value"].reindex(points["x"])
                ax.fill_between(
                    points["x"],
                    points["value"].astype(float),
                    after.astype(float),
                    color=look["color"],
                    alpha=0.45,
                    linewidth=0,
                )
            ends[ax].append((points["value"].iloc[-1], regime, look["color"]))
        n = stated_prompts(tables, role) if role else ""
        title(
            ax,
            words + (f" ({n})" if n else "") + ("\nshaded: fall by a step's update" if column == "pool_before" else ""),
            3.2,
        )
        ax.set_ylabel(label)
        ax.set_xlabel("optimiser step")
        if not ends[ax]:
            ax.text(0.5, 0.5, "no regime trains on attacked cases", transform=ax.transAxes, ha="center", fontsize=8)
        if role:
            ax.set_ylim(-0.04, 1.04)
        else:
            ax.set_ylim(bottom=0)
    headline(figure, "Training", f"{seeds_note(frame)}; where lines coincide, the wide one lies below")
    label_ends(figure, ends, room=0.85)
    return figure
