"""Shape and drift of the refusal field: effective rank, principal angles, carriers against the reference."""

import pandas as pd
from matplotlib.figure import Figure

from safety_geometry.figures.style import across_seeds, draw, headline, looks, need, seeds_note

ANGLES = (("angle_1", ":", "first"), ("angle_2", "--", "second"), ("angle_3", "-", "third"))


def geometry(tables: dict[str, pd.DataFrame]) -> Figure:
    """Four panels over all saves: effective rank, principal angles to the reference, cosine of each carrier with the
    reference's at the reference's site, and S_total's change. Needs geometry."""
    frame = need(tables, "geometry", ["erank", "angle_1", "cos_fixed_r_ref", "cos_fixed_h_ref"])
    styles = looks(frame["regime"])
    figure = Figure(figsize=(9.6, 6.8))
    rank, angles, cosine, score = figure.subplots(2, 2).ravel()
    for regime, look in styles.items():
        rows = frame[frame["regime"] == regime]
        draw(rank, across_seeds(rows, "step", "erank"), look, label=regime)
        for column, line, _ in ANGLES:
            if rows[column].notna().any():
                draw(angles, across_seeds(rows, "step", column), look | {"linestyle": line}, markersize=3)
        draw(cosine, across_seeds(rows, "step", "cos_fixed_r_ref"), look | {"linestyle": "-"})
        draw(cosine, across_seeds(rows, "step", "cos_fixed_h_ref"), look | {"linestyle": ":"}, markerfacecolor="white")
        if rows["s_total_drift"].notna().any():
            draw(score, across_seeds(rows, "step", "s_total_drift"), look)
    for column, line, name in ANGLES:
        if frame[column].notna().any():
            angles.plot([], [], color="#555555", linestyle=line, label=f"{name} angle")
    cosine.plot([], [], color="#555555", linestyle="-", label="R")
    cosine.plot([], [], color="#555555", linestyle=":", label="H")
    rank.set(
        title="Effective rank of the mean-difference field",
        ylabel="effective rank (1 or more)",
        ylim=(1, 1 + 1.12 * (frame["erank"].max() - 1)),
    )
    angles.set(title="Principal angles to the reference's top-3 subspace", ylabel="angle (degrees)", ylim=(-2, 92))
    angles.set_yticks([0, 30, 60, 90])
    cosine.set(title="Carrier direction against the reference's, same site", ylabel="cosine (1: not turned)")
    score.set(title="Score of the refusal carrier against the reference's", ylabel="change of S_total")
    score.axhline(0, color="#888888", linewidth=0.8)
    for ax in (rank, angles, cosine, score):
        ax.set_xlabel("optimiser step")
    angles.legend(loc="best")
    cosine.legend(loc="best")
    handles, names = rank.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    headline(figure, "Shape and drift of the refusal field", seeds_note(frame))
    return figure
