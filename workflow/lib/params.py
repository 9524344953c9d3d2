"""The settings of every job: what its script gets as --params, and what reruns it when it changes."""

from collections.abc import Iterable

from study import Segment, Study


class Params:
    """Of a study's jobs. What a job does not depend on is not in its settings."""

    def __init__(self, study: Study):
        self.study, self.config = study, study.config

    @property
    def model(self) -> dict:
        """What every model job needs to know of the model."""
        return {key: self.config["model"][key] for key in ("dtype", "device", "threads", "system")}

    def prompt_sets(self, private: str) -> dict:
        """The sets point into `prompt_sources` by index."""
        p, paths = self.config["prompts"], self.study.prompt_sources(private)
        sources = {}
        for name, spec in p["sets"].items():
            if spec["source"] is None:
                place = {"path": [paths.index(file) for file in spec["files"]]}
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
    def clean_rows(self) -> dict:
        """How the clean rows are made, or that the data has them."""
        if self.study.answered:
            return {"answers": "data"}
        return {"model": self.model, **{k: self.config["clean_rows"][k] for k in ("max_new_tokens", "batch_size")}}

    def training(self, segment: Segment, seed: int) -> dict:
        """Of one training segment."""
        c, regime = self.config, self.study.regimes[segment.regime]
        other = ("saves", "segment_length", "keep", "monitor", "max_length", "processes", "sharding")
        train = {k: v for k, v in c["train"].items() if k not in other}
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

    def layers(self, name: str) -> dict[str, list[int]]:
        """Key of the configuration -> layers that it names of a model (of `layout.models`); the model needs more blocks than these."""
        c, study = self.config, self.study
        everywhere, scan, refusal = (
            [*study.trajectories, *study.models],
            c["sweep"]["layer_scan"],
            c["refusal"]["layers"],
        )
        attacked = [regime for regime, settings in study.regimes.items() if settings.get("refresh")]
        named = {
            "refusal.layers": ([] if refusal == "all" else refusal, everywhere),
            "coupling.fixed_layers": (c["coupling"]["fixed_layers"], everywhere),
            "sweep.layer_scan.layers": (scan["layers"] if scan else [], [place for _, place, _ in study.swept()]),
            "pool.gcg.probe.layers": (_draft(c.get("pool", {}).get("gcg", {})), attacked),
            "attacks.gcg.probe.layers": (_draft(c["attacks"]["gcg"]), [place for place, _ in study.attack_sources]),
        }
        models = {place: "base" if place in study.regimes else place for place in everywhere}
        return {
            key: layers for key, (layers, places) in named.items() if layers and name in [models[p] for p in places]
        }

    def limits(self, name: str) -> dict[str, dict[str, int]]:
        """What else is asked of a model (of `layout.models`), by the key of the configuration: `safety_geometry.model_limits.Asked`."""
        c, study = self.config, self.study
        sources = ["base" if place in study.regimes else place for place, _ in study.attack_sources]
        attacks = [("attacks", c["attacks"]["gcg"], name in sources)]
        if any(settings.get("refresh") for settings in study.regimes.values()):
            attacks.append(("pool", c["pool"]["gcg"], name == "base"))
        answers = {f"completions.max_new_tokens.{suite}": n for suite, n in c["completions"]["max_new_tokens"].items()}
        answers |= {f"{key}.max_new_tokens": c[key]["max_new_tokens"] for key in ("transfer", "follow_up")}
        answers["sweep.generate.max_new_tokens"] = c["sweep"]["generate"]["max_new_tokens"]
        back = {"activations.positions": -min(c["activations"]["positions"])}
        suffixes = {
            f"{section}.gcg.suffix_length": gcg["suffix_length"] for section, gcg, concerned in attacks if concerned
        }
        return {
            "vocabulary": {f"{section}.gcg.top_k": gcg["top_k"] for section, gcg, concerned in attacks if concerned},
            "context": answers | back | suffixes,
        }

    @property
    def activations(self) -> dict:
        a = self.config["activations"]
        least = {"class_min": self.config["refusal"]["class_min"]} if self.study.by_behaviour else {}
        return {"model": self.model, **{k: a[k] for k in ("positions", "dtype", "batch_size")}, **least}

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
            "seed": seed, "regime": regime, "steps": self.study.steps(regime), "anchors": self.study.anchors(regime),
            "reference": next(iter(self.study.anchors(regime).values())), "scored_steps": self.study.anchor_steps(regime),
            "positions": c["activations"]["positions"], "harmfulness": c["harmfulness"],
            "refusal": {k: refusal[k] for k in ("kl_max", "beta_kl", "max_layer_fraction")},
            **c["coupling"], **statistics, "stats_seed": c["statistics"]["seed"],
        }  # fmt: skip

    def completions(self, regime: str, step: int) -> dict:
        positions = [*self.config["activations"]["positions"], "t_inst"]
        dtype = self.config["activations"]["dtype"]
        return self._answers(self.study.suites(regime, step)) | {"positions": positions, "dtype": dtype}

    @property
    def saves_completions(self) -> dict:
        """Of the answers of the saves that are no anchors."""
        every = self.config["completions"]["every_save"]
        return self._answers(every) | {"prompts": every}

    def _answers(self, suites: Iterable[str]) -> dict:
        c = self.config["completions"]
        limits = {s: tokens for s, tokens in c["max_new_tokens"].items() if s in suites}
        return {"model": self.model, "suites": limits, "batch_size": c["batch_size"]}

    # ---------------------------------------------------------------------------------------------- causal sweep

    def sweep(self, name: str, step: int, seed: int) -> dict:
        """Of the sweep of one checkpoint."""
        s = self.config["sweep"]
        here = name, self.study.anchor_name(name, step)
        primary = [self.study.target_id(t) for t in s["primary"] if (t["regime"], str(t["anchor"])) == here]
        return {
            "model": self.model, "seed": seed, "step": step, "targets": self.study.targets(), "primary": primary,
            **{k: s[k] for k in ("controls", "permutations", "openings", "prompts", "batch_size", "steer_scale", "layer_scan")},
            "generate": {**s["generate"], "cells": self.study.generated()},
            "subspace_positions": self.config["activations"]["positions"],
        }  # fmt: skip

    def follow_up(self, name: str, step: int, seed: int) -> dict:
        """Of the follow-up of one checkpoint: those of its sweep, since the cells are made anew from them."""
        f = self.config["follow_up"]
        return self.sweep(name, step, seed) | {
            "checkpoint": {"regime": name, "step": step},
            "answers": {k: f[k] for k in ("suites", "max_new_tokens", "batch_size")},
        }

    # --------------------------------------------------------------------------------------------------- attacks

    @property
    def attacked_behaviours(self) -> dict:
        a = self.config["attacks"]
        return {
            "model": self.model, "source": "{}:{}".format(*self.study.fixed_source), "batch_size": self.config["completions"]["batch_size"],
            **{k: a[k] for k in ("behaviours", "refusal_tokens", "require_refusal")},
        }  # fmt: skip

    def gcg_attacks(self, regime: str, step: int, seed: int) -> dict:
        """All behaviours on the fixed source, the first on the others."""
        section = "attacks" if (regime, step) == self.study.fixed_source else "transfer"
        common = self._attack(regime, step, seed, self.config[section]["behaviours"])
        return common | {"gcg": self.config["attacks"]["gcg"]}

    def autodan_attacks(self, regime: str, step: int, seed: int) -> dict:
        search = dict(self.config["attacks"]["autodan"])
        common = self._attack(regime, step, seed, self.config["transfer"]["behaviours"])
        return common | {"seeds": search.pop("seeds"), "autodan": search}

    def _attack(self, regime: str, step: int, seed: int, behaviours: int) -> dict:
        return {"model": self.model, "seed": seed, "source": f"{regime}:{step}", "behaviours": behaviours}

    def transfer(self, regime: str, step: int) -> dict:
        """Of asking all targets the attacks of one source; `whole` are those of the targets that have no adapter."""
        t, targets = self.config["transfer"], self.study.attack_targets(regime, step)
        whole = [f"{name}:{at}" for name, at in targets if not self.study.has_adapter(name, at)]
        return {
            "model": self.model, "source": f"{regime}:{step}",
            "targets": [f"{name}:{at}" for name, at in targets], **({"whole": whole} if whole else {}),
            **{k: t[k] for k in ("behaviours", "max_new_tokens", "batch_size")},
        }  # fmt: skip


def _draft(gcg: dict) -> list[int]:
    """Blocks of the draft that screens the candidates of an attack, where there is one."""
    return [gcg["probe"]["layers"]] if gcg.get("probe") else []
