"""What the configuration means for the graph: checkpoints, anchors, segments; and the settings of every job."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Segment:
    regime: str
    start: int
    stop: int
    saves: tuple[int, ...]


class Study:
    """Read-only view of the configuration (see `combinations` for what is checked)."""

    def __init__(self, config: dict):
        self.config = config
        self.regimes: dict[str, dict] = config["regimes"]
        self.models: dict[str, dict] = config["aligned"]["models"]

    def steps(self, name: str) -> list[int]:
        """Saved steps of a regime; an aligned model, which was not trained here, has step 0 only."""
        return [0] if name in self.models else sorted(self.regimes[name].get("saves", self.config["train"]["saves"]))

    def anchors(self, regime: str) -> dict[str, int]:
        """Anchor name -> step, in order; the reference first."""
        if regime in self.models:
            return {"model": 0}
        settings = self.regimes[regime]
        others = sorted(settings.get("anchors", self.config["anchors"]))
        return {"reference": settings["reference"], **{str(step): step for step in others}}

    def anchor_steps(self, regime: str) -> list[int]:
        return sorted(set(self.anchors(regime).values()))

    def anchor_name(self, regime: str, step: int) -> str | None:
        return {s: name for name, s in self.anchors(regime).items()}.get(step)

    def identities(self, points: Iterable[tuple[int, str, int]]) -> list[dict]:
        """{seed, regime, step, anchor} of each (seed, regime, step): how tables name a checkpoint."""
        return [
            {"seed": seed, "regime": regime, "step": step, "anchor": self.anchor_name(regime, step)}
            for seed, regime, step in points
        ]

    def training_priority(self, regime: str) -> int:
        """Longest first: the dynamic regime, then the source of the attacks, which every completion waits for."""
        if self.regimes[regime].get("refresh"):
            return 100
        return 95 if regime == self.config["attacks"]["source"]["regime"] else 50

    def sweep_priority(self, regime: str) -> int:
        """Of a regime's way to its carriers: sweeps are the longest jobs, and what follows them waits for both."""
        return 80 if regime in self.config["sweep"]["checkpoints"] or regime in self.models else 0

    def segments(self, regime: str) -> list[Segment]:
        """Segments end at the multiples of train.segment_length and at the last save; an aligned model has none."""
        if regime in self.models:
            return []
        saves, length = self.steps(regime), self.config["train"]["segment_length"]
        last = saves[-1]
        ends = [0, *range(length, last, length), last]
        return [Segment(regime, a, b, tuple(s for s in saves if a < s <= b)) for a, b in pairwise(ends)]

    def passing(self, regime: str, step: int) -> bool:
        """Whether the adapter is deleted once everything that reads it has run."""
        return self.config["train"]["keep"] == "anchors" and step not in self.anchor_steps(regime)

    def checkpoints(self) -> list[tuple[str, int]]:
        return [(regime, step) for regime in self.regimes for step in self.steps(regime)]

    def suites(self, regime: str, step: int) -> dict[str, int | None]:
        """Evaluation suites of a checkpoint, in the order of the configuration: how many first prompts; None: all."""
        wanted = self.config["completions"]["max_new_tokens"]
        if step in self.anchor_steps(regime):
            return dict.fromkeys(wanted)
        every = self.config["completions"]["every_save"]
        return {s: every[s] for s in wanted if s in every}

    def between_anchors(self, segment: Segment) -> list[int]:
        """Saves of a segment that are no anchors."""
        return [step for step in segment.saves if step not in self.anchor_steps(segment.regime)]

    @property
    def model(self) -> dict:
        """What every model job needs to know of the model."""
        return {key: self.config["model"][key] for key in ("dtype", "device", "threads", "system")}

    def own_files(self) -> list[str]:
        """Prompt files of this project that the study reads."""
        sets = self.config["prompts"]["sets"].values()
        return sorted({file for s in sets if s["source"] is None for file in s["files"]})

    def prompt_sources(self, private: str) -> list[str]:
        """Files and folders that the prompt sets are read from, each once."""
        sets = self.config["prompts"]["sets"].values()
        fetched = sorted(
            {s["source"] for s in sets if s["source"] is not None}
            | {s["targets"]["source"] for s in sets if "targets" in s}
        )
        return [f"{private}/sources/{name}" for name in fetched] + self.own_files()

    def prompt_settings(self, private: str) -> dict:
        """Params of the prompt_sets script: the sets point into `prompt_sources` by index."""
        p, paths = self.config["prompts"], self.prompt_sources(private)
        sources = {}
        for name, spec in p["sets"].items():
            if spec["source"] is None:
                place = {"path": paths.index(spec["files"][0])}
            else:
                place = {"path": paths.index(f"{private}/sources/{spec['source']}"), "files": spec["files"]}
            sources[name] = place | {k: spec[k] for k in ("format", "label", "sample") if k in spec}
            if t := spec.get("targets"):
                folder = f"{private}/sources/{t['source']}"
                sources[name]["targets"] = {"path": paths.index(folder), "files": t["files"]}
        roles = {
            name: {"source": r["set"], **{k: v for k, v in r.items() if k != "set"}} for name, r in p["roles"].items()
        }
        return {
            "sources": sources, "roles": roles, "seed": p["seed"], "threshold": p["near_duplicate"],
            "on_leak": p["on_leak"], "target_words": p["target_words"],
        }  # fmt: skip

    @property
    def answered(self) -> bool:
        """Clean rows are the conversations of the data, not the base model's answers."""
        return self.config["clean_rows"].get("answers") == "data"

    @property
    def clean_rows(self) -> dict:
        """Params of the clean rows."""
        if self.answered:
            return {"answers": "data"}
        return {"model": self.model, **{k: self.config["clean_rows"][k] for k in ("max_new_tokens", "batch_size")}}

    def training(self, segment: Segment, seed: int) -> dict:
        """Params of one training segment."""
        c, regime = self.config, self.regimes[segment.regime]
        train = {
            k: v for k, v in c["train"].items() if k not in ("saves", "segment_length", "keep", "monitor", "max_length")
        }
        pool, gcg = None, None
        if regime["kind"] == "r2d2":
            pool = {k: v for k, v in c["pool"].items() if k != "gcg"} | {
                k: regime.get(k, True) for k in ("refresh", "away")
            }
            gcg = c["pool"]["gcg"]
            if not regime["refresh"]:  # nothing but the start of the suffixes matters where they are frozen
                gcg = {"steps": 0, "width": 1, **{k: gcg[k] for k in ("suffix_length", "init") if k in gcg}}
        return {
            "model": self.model, "seed": seed, "regime": segment.regime, "start": segment.start, "stop": segment.stop,
            "saves": segment.saves, "lora": c["lora"], "train": train, "max_length": c["train"]["max_length"],
            "monitor": c["train"]["monitor"], "base_name": c["model"]["name"],
            "pool": pool, "gcg": gcg,
        }  # fmt: skip

    @property
    def activations(self) -> dict:
        a = self.config["activations"]
        least = {"class_min": self.config["refusal"]["class_min"]} if self.by_behaviour else {}
        return {"model": self.model, **{k: a[k] for k in ("positions", "dtype", "batch_size")}, **least}

    @property
    def by_behaviour(self) -> bool:
        """R is the contrast of refused and other prompts."""
        return self.config["refusal"]["contrast"] == "behaviour"

    @property
    def labels(self) -> dict:
        """What the labels of the fit prompts depend on."""
        tokens, batch = self.config["refusal"]["answer_tokens"], self.config["completions"]["batch_size"]
        return {"model": self.model, "answer_tokens": tokens, "batch_size": batch}

    @property
    def saves_activations(self) -> dict:
        """Of the saves that are no anchors."""
        keep = self.config["activations"]["keep"]
        position = {} if keep == "all" else {"select_position": self.config["harmfulness"]["position"]}
        return {**self.activations, "keep": keep, **position}

    @property
    def scoring(self) -> dict:
        """What the candidate scores depend on. The thresholds are not here: they act on stored scores."""
        r = self.config["refusal"]
        return {
            "layers": r["layers"], "max_layer_fraction": r["max_layer_fraction"] if r["layers"] == "all" else None,
            "candidate_positions": self.config["activations"]["positions"], "validation": r["validation"],
            "coefficient": r["coefficient"], "evaluation_share": r["evaluation_share"], "score_batch": r["batch_size"],
        }  # fmt: skip

    def carriers(self, regime: str, seed: int) -> dict:
        c, refusal = self.config, self.config["refusal"]
        statistics = {k: c["statistics"][k] for k in ("bootstrap", "shuffles", "splits")}
        return {
            "seed": seed, "regime": regime, "steps": self.steps(regime), "anchors": self.anchors(regime),
            "reference": self.regimes[regime]["reference"] if regime in self.regimes else 0, "scored_steps": self.anchor_steps(regime),
            "positions": c["activations"]["positions"], "harmfulness": c["harmfulness"],
            "refusal": {k: refusal[k] for k in ("kl_max", "beta_kl", "max_layer_fraction")},
            **c["coupling"], **statistics, "stats_seed": c["statistics"]["seed"],
        }  # fmt: skip

    def completions(self, regime: str, step: int) -> dict:
        positions = [*self.config["activations"]["positions"], "t_inst"]
        dtype = self.config["activations"]["dtype"]
        return self._answers(self.suites(regime, step)) | {"positions": positions, "dtype": dtype}

    @property
    def saves_completions(self) -> dict:
        """Params of the answers of the saves that are no anchors."""
        every = self.config["completions"]["every_save"]
        return self._answers(every) | {"prompts": every}

    def _answers(self, suites: Iterable[str]) -> dict:
        c = self.config["completions"]
        limits = {s: tokens for s, tokens in c["max_new_tokens"].items() if s in suites}
        return {"model": self.model, "suites": limits, "batch_size": c["batch_size"]}

    # ---------------------------------------------------------------------------------------------- causal sweep

    def swept(self) -> list[tuple[int, str, int]]:
        """(seed, regime or aligned model, step) of every swept checkpoint. An aligned model has no seed: the first stands."""
        points = self.at_anchors(self.config["sweep"]["checkpoints"])
        found = [(seed, *point) for seed in self.config["seeds"] for point in points]
        return found + [(self.config["seeds"][0], name, 0) for name in self.models]

    def targets(self) -> list[dict]:
        """Every target of the sweep: family × λ × mode × scope × rank. Steering adds single directions only."""
        s = self.config["sweep"]
        return [
            {"family": family, "mode": mode, "lambda": strength, "scope": scope, "rank": rank}
            for family in ("ablate", "steer")
            for strength in s[family]
            for mode in s["modes"]
            for scope in s["scopes"]
            for rank in s["ranks"]
            if family == "ablate" or rank == 1
        ]

    @staticmethod
    def target_id(target: dict) -> str:
        scope, rank = target.get("scope", "layer"), target.get("rank", 1)
        return f"{target['family']}:{target['mode']}:{target['lambda']:g}:{scope}:{rank}"

    def generated(self) -> list[str]:
        """Ids of the targets that give answers."""
        return [self.target_id(t) for t in self.config["sweep"]["generate"]["cells"]]

    def sweep(self, name: str, step: int, seed: int) -> dict:
        """Params of the sweep of one checkpoint."""
        s = self.config["sweep"]
        here = name, self.anchor_name(name, step)
        primary = [self.target_id(t) for t in s["primary"] if (t["regime"], str(t["anchor"])) == here]
        return {
            "model": self.model, "seed": seed, "step": step, "targets": self.targets(), "primary": primary,
            **{k: s[k] for k in ("controls", "permutations", "openings", "prompts", "batch_size", "steer_scale", "layer_scan")},
            "generate": {**s["generate"], "cells": self.generated()},
            "subspace_positions": self.config["activations"]["positions"],
        }  # fmt: skip

    def follow_up(self, name: str, step: int, seed: int) -> dict:
        """Params of the follow-up of one checkpoint: those of its sweep, since the cells are made anew from them."""
        f = self.config["follow_up"]
        return self.sweep(name, step, seed) | {
            "checkpoint": {"regime": name, "step": step},
            "answers": {k: f[k] for k in ("suites", "max_new_tokens", "batch_size")},
        }

    # --------------------------------------------------------------------------------------------------- attacks

    @property
    def fixed_source(self) -> tuple[str, int]:
        source = self.config["attacks"]["source"]
        return source["regime"], source["step"]

    def at_anchors(self, named: dict[str, list]) -> list[tuple[str, int]]:
        """(regime, step) of anchors that the configuration lists by regime."""
        return [(regime, self.anchors(regime)[str(a)]) for regime, anchors in named.items() for a in anchors]

    @property
    def attack_sources(self) -> list[tuple[str, int]]:
        """Checkpoints that attacks are made on, the fixed source first."""
        return list(dict.fromkeys([self.fixed_source, *self.at_anchors(self.config["transfer"]["sources"])]))

    def methods(self, regime: str, step: int) -> list[str]:
        """Attacks made on a source: GCG on the fixed one, whatever transfer asks for."""
        transferred = (regime, step) in self.at_anchors(self.config["transfer"]["sources"])
        wanted = set(self.config["transfer"]["methods"] if transferred else [])
        return [m for m in ("gcg", "autodan") if m in wanted or (m == "gcg" and (regime, step) == self.fixed_source)]

    def attack_targets(self, regime: str, step: int) -> list[tuple[str, int]]:
        """Checkpoints that are asked the attacks of a source: itself first."""
        t = self.config["transfer"]
        others = self.at_anchors(t["targets"]) if (regime, step) in self.at_anchors(t["sources"]) else []
        return list(dict.fromkeys([(regime, step), *others]))

    @property
    def attacked_behaviours(self) -> dict:
        a = self.config["attacks"]
        return {
            "model": self.model, "source": "{}:{}".format(*self.fixed_source), "batch_size": self.config["completions"]["batch_size"],
            **{k: a[k] for k in ("behaviours", "refusal_tokens", "require_refusal")},
        }  # fmt: skip

    def gcg_attacks(self, regime: str, step: int, seed: int) -> dict:
        """All behaviours on the fixed source, the first on the others."""
        section = "attacks" if (regime, step) == self.fixed_source else "transfer"
        common = self._attack(regime, step, seed, self.config[section]["behaviours"])
        return common | {"gcg": self.config["attacks"]["gcg"]}

    def autodan_attacks(self, regime: str, step: int, seed: int) -> dict:
        search = dict(self.config["attacks"]["autodan"])
        common = self._attack(regime, step, seed, self.config["transfer"]["behaviours"])
        return common | {"seeds": search.pop("seeds"), "autodan": search}

    def _attack(self, regime: str, step: int, seed: int, behaviours: int) -> dict:
        return {"model": self.model, "seed": seed, "source": f"{regime}:{step}", "behaviours": behaviours}

    def transfer(self, regime: str, step: int) -> dict:
        """Params of asking all targets the attacks of one source."""
        t = self.config["transfer"]
        return {
            "model": self.model, "source": f"{regime}:{step}",
            "targets": [f"{name}:{at}" for name, at in self.attack_targets(regime, step)],
            **{k: t[k] for k in ("behaviours", "max_new_tokens", "batch_size")},
        }  # fmt: skip
