"""Figures, and what the report shows of them."""

FIGURE_TABLES = {
    "five_anchor": ["five_anchor", "coupling_controls", "coupling"],
    "trajectory": ["trajectory", "coupling_controls", "coupling"],
    "layer_profile": ["profile"],
    **({"training_curves": ["training"]} if study.regimes else {}),
    "geometry": ["geometry", "coupling"],
    "coupling_controls": ["coupling_controls", "coupling"],
    "transfer": ["transfer"],
    "transfer_predictors": ["transfer_predictors"],
    "dense": ["trajectory", "dense_correlations", "coupling_transition"],
}
CAUSAL_FIGURES = {
    "causal_layers": "layer_scan",
    "dose_response": "causal_sweep",
    "control_effects": "control_normalised",
    "aligned_anchors": "aligned_anchors",
    "follow_up": "follow_up",
    "quadrants": "quadrants",
}
FIGURE_TABLES |= {figure: [table] for figure, table in CAUSAL_FIGURES.items() if table in CAUSAL_TABLES}


def prompts_used(role, most=None):
    """Prompts of a role that a stage reads, at most so many; null where only the run knows."""
    return min((n for n in (config["prompts"]["roles"][role]["n"], most) if isinstance(n, int)), default=None)


# Numbers of prompts behind a figure that stand in no table; with carriers from behaviour they are each checkpoint's own.
FIGURE_PROMPTS = {}
if study.regimes:
    FIGURE_PROMPTS["training_curves"] = {
        "monitor": prompts_used("monitor_harmful", config["train"]["monitor"]["prompts"])
    }
if not study.by_behaviour:
    scored = prompts_used("select_harmful", config["refusal"]["validation"])
    FIGURE_PROMPTS["layer_profile"] = {"H": prompts_used("select_harmful"), "R": scored}
ALL_FIGURES = [f"{R}/figures/{name}.{kind}" for name in FIGURE_TABLES for kind in ("svg", "png")]


def figure_settings(name):
    may_be_empty = {"may_be_empty": True} if study.by_behaviour or study.own else {}
    return settings(name=name, **may_be_empty, **({"prompts": FIGURE_PROMPTS[name]} if name in FIGURE_PROMPTS else {}))


report: "../report/workflow.rst"


for figure, wanted in FIGURE_TABLES.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            tables=[layout.table(name) for name in wanted],
        output:
            svg=report(
                f"{R}/figures/{figure}.svg",
                caption=f"../report/figure_{figure}.rst",
                category="Figures",
                labels={"figure": figure},
            ),
            png=f"{R}/figures/{figure}.png",
        log:
            f"{R}/logs/figures/{figure}.log",
        conda:
            "../../envs/analysis.yaml"
        resources:
            **needs(f"figure_{figure}"),
        params:
            code=code("figure"),
            settings=always(figure_settings(figure)),
        shell:
            "export OMP_NUM_THREADS=1; python workflow/scripts/figure.py --tables {input.tables:q} --svg {output.svg:q} --png {output.png:q}"
            " --params {params.settings:q} --code {params.code:q} 2> {log:q}"
