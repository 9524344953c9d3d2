"""Which cells of a sweep's plan answer."""

from safety_geometry.causal.plan import SweepPlan, Target

H, R, RH = Target("ablate", "h_only", 1.0), Target("ablate", "r_only", 1.0), Target("ablate", "r_perp_h", 1.0)
EVERYWHERE = Target("ablate", "r_only", 1.0, "all_layers")


def answering(*alone: Target) -> dict[str, list[str]]:
    """Kinds of control that answer, by group, and the targets that do."""
    targets = (H, R, RH, EVERYWHERE)
    answers = frozenset(target.id for target in targets)
    plan = SweepPlan(
        targets,
        {"random": 3, "wrong_layer": 1},
        0,
        answers,
        {"random": 2, "wrong_layer": 1},
        alone=frozenset(target.id for target in alone),
    )
    found: dict[str, list[str]] = {}
    for unit in plan.units():
        found.setdefault(unit.group, []).extend(cell.kind for cell in unit.cells if cell.answers)
    return found


SPEAKING = ["target", "wrong_layer", "random", "random"]


def test_controls_answer_beside_every_target_unless_it_is_alone():
    """An ablation's controls are its own: those of its energy."""
    every = answering()
    assert all(every[target.group] == SPEAKING for target in (H, R, RH, EVERYWHERE))


def test_beside_a_target_alone_no_control_answers():
    some = answering(H, RH, EVERYWHERE)
    assert some[R.group] == SPEAKING and all(some[target.group] == ["target"] for target in (H, RH, EVERYWHERE))
    none = answering(H, R, RH, EVERYWHERE)
    assert set(none) == set(some) and all(set(kinds) <= {"target", "baseline"} for kinds in none.values())
