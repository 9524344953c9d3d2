"""Coupling and behaviour over all saves, when coupling changes level, and whether the two move together."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.dense import SITES
from safety_geometry.figures.modes import BROWN
from safety_geometry.figures.style import GREY, PURPLE, NoData, across_seeds, draw, headline, need, striped
from safety_geometry.figures.trajectory import BEHAVIOUR

QUANTITY, FROZEN = "hrci_repr", "hrci_repr_frozen"
FORMS = {"levels": ("levels", "black"), "first_differences": ("first differences", BROWN)}
WORDS = {
    "fixed_asr": "fixed ASR", "direct_asr": "direct ASR", "any_refusal": "refusal of look-alikes", "benign_refusal": "benign refusal",
    "benign_mean": "benign helpfulness", "usefulness": "harmful usefulness",
}  # fmt: skip


def dense(tables: dict[str, pd.DataFrame]) -> Figure:
    """One column per regime. Above: HRCI_repr at frozen sites and its change point with interval, in grey that at selected sites. Middle: behaviour. Below: ρ of HRCI_repr with
    behaviour, levels and first differences, per block length. Change points, ρ and their intervals are the first seed's (crosses: ρ of
    the others), curves the mean over seeds. Needs trajectory, dense_correlations and coupling_transition."""
    frame = need(tables, "trajectory", [FROZEN])
    if (rho := tables.get("dense_correlations")) is None:  # it may have no rows: too few saves with behaviour
        raise NoData("the table dense_correlations is missing")
    changes = need(tables, "coupling_transition", ["n"])
    regimes = list(dict.fromkeys(frame["regime"]))
    seed, seeds = min(frame["seed"]), len(set(frame["seed"]))
    rho = rho[(rho["predictor"] == QUANTITY) & (rho["sites"] == "frozen")].dropna(subset=["rho"])
    others, rho = rho[rho["seed"] != seed], rho[rho["seed"] == seed]
    outcomes = [name for name in WORDS if (rho["outcome"] == name).any()]
    lengths = sorted(rho["block_length"].dropna().astype(int).unique())
    lower = (0.34 + 0.09 * max(len(lengths), 1)) * max(len(outcomes), 2)
    figure = Figure(figsize=(max(6.8, 3.6 * len(regimes) + 1.2), 5.2 + lower))
    axes = figure.subplots(3, len(regimes), sharey="row", height_ratios=[2.2, 2.2, 0.4 + lower], squeeze=False)
    behaviour = [b for b in BEHAVIOUR if b[0] in frame and frame[b[0]].notna().any()]
    for (top, middle, bottom), regime in zip(axes.T, regimes, strict=True):
        saves = frame[frame["regime"] == regime]
        for column, colour in ((QUANTITY, GREY), (FROZEN, "black")):
            draw(
                top,
                across_seeds(saves, "step", column),
                {"color": colour, "marker": "o", "linestyle": "-", "markersize": 3.0},
            )
        mine = changes[(changes["regime"] == regime) & (changes["quantity"] == QUANTITY) & (changes["seed"] == seed)]
        mine = mine[mine["sites"] == "frozen"]
        top.set_title(f"{regime}\n{level_change(top, saves[saves['seed'] == seed], mine)}")
        relocations(top, saves[saves["seed"] == seed])
        for metric, label, colour, marker, scale in behaviour:
            points = across_seeds(saves, "step", metric)
            points[["value", "lo", "hi"]] *= scale
            draw(middle, points, {"color": colour, "marker": marker, "linestyle": "-", "markersize": 3.5}, label=label)
        middle.set_ylim(-0.04, 1.04)
        middle.sharex(top)
        top.tick_params(labelbottom=False)
        middle.set_xlabel("optimiser step")
        forest(bottom, rho[rho["regime"] == regime], outcomes)
        crosses(bottom, others[others["regime"] == regime], outcomes)
        bottom.set_xlabel("Spearman's ρ with HRCI_repr, frozen sites")
    axes[0, 0].set_ylabel("HRCI_repr\n(grey: sites of the anchors)")
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylabel("share of prompts,\nor score / maximum")
    axes[2, 0].set_yticks(range(len(outcomes)), [WORDS[name] for name in outcomes])
    axes[2, 0].set_ylim(max(len(outcomes), 2) - 0.5, -0.5)
    handles, names = axes[1, 0].get_legend_handles_labels()
    for i, (text, colour) in enumerate(FORMS.values()):
        handles.append(Line2D([], [], color=colour, marker="o", markerfacecolor="none" if i else colour, label=text))
        names.append(f"ρ of {text}")
    if len(others):
        handles.append(Line2D([], [], color=GREY, marker="x", linestyle="none", label="other seeds"))
        names.append("ρ of other seeds")
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    bars = f"blocks of {', '.join(map(str, lengths))} saves" if lengths else "under 20 saves: no intervals"
    note = "one seed" if seeds == 1 else f"curves: mean of {seeds} seeds; change, ρ and bars: seed {seed}"
    headline(figure, "Do coupling and behaviour move together?", f"{bars}; {note}")
    return figure


def level_change(ax: Axes, saves: pd.DataFrame, change: pd.DataFrame) -> str:
    """Band, levels and words of a change point."""
    if not len(change) or change["step"].isna().iloc[0]:
        n = int(change["n"].iloc[0]) if len(change) else len(saves)
        return f"{n} saves: too few for a change point"
    row = change.iloc[0]
    step, lo, hi = (int(row[name]) for name in ("step", "lo", "hi"))
    ax.axvspan(lo, hi, color=PURPLE, alpha=0.25, linewidth=0, zorder=0)
    before = saves["step"] < step
    for part in (saves[before], saves[~before]):
        level = part[FROZEN].mean()
        ax.plot(
            [part["step"].min(), part["step"].max()],
            [level, level],
            color=PURPLE,
            linestyle="--",
            linewidth=1.4,
            zorder=1,
        )
    return f"change in ({lo}, {hi}], p = {row['p']:.2g} (least {row['p_smallest']:.2g})"


def relocations(ax: Axes, saves: pd.DataFrame) -> None:
    """A triangle on the axis at every save whose sites differ from those of the save before."""
    saves = saves.sort_values("step", kind="stable")
    sites = (
        saves[[name for name in SITES if name in saves]].astype(str).agg("/".join, axis=1)
        if len(saves)
        else pd.Series(dtype=str)
    )
    moved = saves.loc[(sites != sites.shift()) & (np.arange(len(saves)) > 0), "step"]
    if len(moved):  # an empty line would count in the layout
        at = np.zeros(len(moved))
        ax.plot(moved, at, "^", color=GREY, markersize=5, transform=ax.get_xaxis_transform(), clip_on=False, zorder=4)


def forest(ax: Axes, rows: pd.DataFrame, outcomes: list[str]) -> None:
    """ρ of each outcome, levels above first differences; a bar per block length, shortest on top."""
    ax.set_xlim(-1.08, 1.08)
    striped(ax, len(outcomes), zero=True)
    if not outcomes:
        words = "fewer than three saves with behaviour"
        ax.text(0, 0, words, ha="center", va="center", fontsize=7.5, color=GREY).set_in_layout(False)
    for i, outcome in enumerate(outcomes):
        if not (rows["outcome"] == outcome).any():
            ax.text(-1.0, i, "not measured, or the same everywhere", va="center", fontsize=7.5, color=GREY)
        for j, (form, (_, colour)) in enumerate(FORMS.items()):
            own = rows[(rows["outcome"] == outcome) & (rows["form"] == form)].sort_values("block_length", kind="stable")
            gap = 0.36 / max(len(own), 1)
            for k, row in enumerate(own.itertuples()):
                y = i - 0.4 + 0.42 * j + gap * (k + 0.5)
                if np.isfinite(row.lo):
                    ax.hlines(y, row.lo, row.hi, color=colour, linewidth=1.1)
                ax.plot(
                    row.rho, y, "o", color=colour, markerfacecolor="none" if j else colour, markersize=3.6, zorder=3
                )
            if len(own) and np.isfinite(own["rho_tie_ceiling"].iloc[0]):
                at = i - 0.22 + 0.42 * j
                for end in (-1, 1):
                    ax.plot(
                        end * own["rho_tie_ceiling"].iloc[0],
                        at,
                        "|",
                        color=colour,
                        markersize=7,
                        markeredgewidth=0.9,
                        zorder=2,
                    )


def crosses(ax: Axes, rows: pd.DataFrame, outcomes: list[str]) -> None:
    """ρ of other seeds, which is the same at every block length, at the height of their form."""
    rows = rows.drop_duplicates(["seed", "outcome", "form"])
    for i, outcome in enumerate(outcomes):
        for j, (form, (_, colour)) in enumerate(FORMS.items()):
            found = rows.loc[(rows["outcome"] == outcome) & (rows["form"] == form), "rho"]
            ax.plot(found, [i - 0.19 + 0.42 * j] * len(found), "x", color=colour, markersize=4.5, zorder=3)
