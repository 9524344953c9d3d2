"""Shape and drift of the refusal field: effective rank, principal angles, carriers against the reference."""

import pandas as pd
from matplotlib.figure import Figure

from safety_geometry.figures.lettering import headline, label_ends, title
from safety_geometry.figures.notes import candidates_note, fit_prompts, seeds_note
from safety_geometry.figures.style import across_seeds, draw, looks, need, step_axis

ROWS = (  # column, title, label of the axis
    (
        ("erank", "Effective rank of the field", "effective rank (1 or more)"),
        ("cos_fixed_r_ref", "R against the reference's R", "cosine, same site (1: not turned)"),
        ("cos_fixed_h_ref", "H against the reference's H", "cosine, same site (1: not turned)"),
        ("s_total_drift", "Score of R less the reference's", "change of S_total"),
    ),
    (
        ("angle_1", "First principal angle", "degrees to the reference's top 3"),
        ("angle_2", "Second principal angle", "degrees"),
        ("angle_3", "Third principal angle", "degrees"),
    ),
)
ANGLES = [name for name, _, _ in ROWS[1]]


def geometry(tables: dict[str, pd.DataFrame]) -> Figure:
    """Over all saves, a line per regime. Above: effective rank, cosine of each carrier with the reference's at the
    reference's site, S_total's change. Below: the principal angles to the reference, a panel each. Needs geometry;
    coupling, where given, tells the number of prompts and where R is no R."""
    frame = need(tables, "geometry", ["erank", "angle_1", "cos_fixed_r_ref", "cos_fixed_h_ref"])
    styles = looks(frame["regime"])
    figure = Figure(figsize=(12.4, 6.2))
    axes, ends = figure.subplots(2, 4), {}
    axes[1, 3].remove()
    for line, row in zip(axes, ROWS, strict=True):
        for ax, (column, words, label) in zip(line, row, strict=False):
            ends[ax] = []
            for regime, look in styles.items():
                points = across_seeds(frame[frame["regime"] == regime], "step", column)
                if len(points):
                    draw(ax, points, look)
                    ends[ax].append((points["value"].iloc[-1], regime, look["color"]))
            if not ends[ax]:
                ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", fontsize=8)
            title(ax, words, 2.2)
            ax.set_ylabel(label)
            step_axis(ax, frame["step"])
    axes[0, 0].set_ylim(1, 1 + 1.12 * max(frame["erank"].max() - 1, 1))
    cosines = frame[["cos_fixed_r_ref", "cos_fixed_h_ref"]].min().min()
    for ax in axes[0, 1:3]:  # one scale, so that the carrier that turned less looks it
        ax.set_ylim(cosines - 0.08 * max(1 - cosines, 0.05), 1 + 0.05 * max(1 - cosines, 0.05))
    axes[0, 3].axhline(0, color="#888888", linewidth=0.8)
    highest = 15 * -(-max(frame[ANGLES].max().max(), 1) // 15)
    for ax in axes[1, :3]:
        ax.set_ylim(-0.03 * highest, 1.05 * highest)
    n = fit_prompts(tables)
    note = f"{n + '; ' if n else ''}{seeds_note(frame)}{candidates_note(tables)}"
    headline(figure, "Shape and drift of the refusal field", note)
    label_ends(figure, ends, room=0.8)
    return figure
