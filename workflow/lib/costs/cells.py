"""How many cells a sweep has, by what is computed of each; the counting of safety_geometry.causal.cells, without a model."""

from dataclasses import dataclass

from params import Params

OWN = ("wrong_layer", "wrong_position", "norm_matched")  # kinds of control that belong to one target
SHARED = ("random", "covariance", "shuffled")  # ... and those that serve the targets of a carrier
CARRIER = {"h_only": "H", "h_perp_r": "H", "r_only": "R", "r_perp_h": "R"}  # h_plus_r acts at both
BELOW = 0.45  # share of the blocks above a carrier's layer, which is not known before it is chosen


@dataclass
class Cells:
    """log_odds, kl, spoken: cells that are read on harmful prompts, on benign ones, and that answer; log_odds_blocks,
    kl_blocks: the same, each counted by its share of the blocks that run for it."""

    log_odds: int = 0
    kl: int = 0
    spoken: int = 0
    log_odds_blocks: float = 0.0
    kl_blocks: float = 0.0

    def add(self, count: int, share: float, kl: int | None = None) -> None:
        kl = count if kl is None else kl
        self.log_odds, self.kl = self.log_odds + count, self.kl + kl
        self.log_odds_blocks, self.kl_blocks = self.log_odds_blocks + count * share, self.kl_blocks + kl * share


def count_cells(params: Params, name: str, step: int, seed: int, layers: int) -> Cells:
    """Of the sweep of one checkpoint, at the most: controls that do not exist there are counted as if they did."""
    p, out = params.sweep(name, step, seed), Cells()
    counts, speaking = p["controls"], p["generate"]["controls"]
    groups: dict[tuple, list[dict]] = {}
    for target in p["targets"]:
        carrier = CARRIER.get(target["mode"], "HR")
        key = (target["family"], carrier, target["lambda"], target["scope"], target["rank"])
        groups.setdefault(key, []).append(target)
    for key, targets in groups.items():
        share = 1.0 if key[3] == "all_layers" else BELOW
        ids = [params.study.target_id(t) for t in targets]
        asked = [i for i in ids if i in p["generate"]["cells"]]
        out.add(len(targets) * (1 + sum(counts.get(kind, 0) for kind in OWN)), share)
        out.spoken += len(asked) * (1 + sum(min(speaking.get(kind, 0), counts.get(kind, 0)) for kind in OWN))
        least = -(-p["permutations"] // len(SHARED)) if set(ids) & set(p["primary"]) else 0
        for kind in SHARED:
            known = counts.get(kind, 0)
            out.add(max(known, least), share, kl=known)
            out.spoken += min(speaking.get(kind, 0), max(known, least)) if asked else 0
    if scan := p["layer_scan"]:
        for layer in scan["layers"]:
            out.add(len(scan["modes"]), 1 - layer / layers)
    out.spoken += 1 if out.spoken else 0  # the model as it is
    return out
