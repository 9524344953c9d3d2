"""Harmfulness-refusal coupling of a language model under (adversarial) fine-tuning.

Functions on tensors, arrays and data frames: no workflow, no paths of a study, no configuration file. Layers are
zero-based and mean the residual stream at the *input* of a block; positions count from the end of the rendered prompt
(-1 is the last token). The names below are served from the modules where they stand, each loaded when it is first used;
docs/library.md explains them, and
`__init__.pyi` has them for type checkers.
"""

from importlib import import_module

_NAMES = {
    "models.language_model": ("LanguageModel", "load_language_model"),
    "models.answers": ("Answer", "answer"),
    "models.chat": ("ChatFormat", "Rendered"),
    "models.runner": ("Runner",),
    "models.generation": ("generate",),
    "models.interventions": ("Intervention",),
    "geometry.activations": ("record", "stream"),
    "geometry.directions": (
        "ClassActivations",
        "record_classes",
        "harmfulness_carrier",
        "score_refusal_candidates",
        "refusal_carrier",
        "couple_carriers",
    ),
    "artefacts.carriers": ("Carrier",),
    "geometry.carriers": ("candidate_table",),
    "geometry.coupling": ("Coupling", "couple", "field_geometry", "isotropic_coupling"),
    "causal.edits": ("ablate", "steer", "mode_edits"),
    "judges.judging": ("judge_completions", "make_judge", "register_judge", "available_judges"),
    "judges.refusal": ("classify",),
    "attacks.gcg.config": ("GCGConfig",),
    "attacks.gcg.search": ("GCGResult", "attack", "attack_many"),
    "attacks.gcg.suffix": ("allowed_tokens", "initial_suffix"),
    "attacks.autodan.search": ("AutoDANConfig", "AutoDANResult", "autodan"),
    "stats.estimates": ("wilson", "paired_difference", "mcnemar_exact", "spearman", "permutation_p", "holm"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
