"""What test_distributed.py does in one process, and what `rank_main` does in each of several.

Everything is in float64 without dropout, on tiny random models. What a rank found goes to <folder>/rank<r>.json.
"""

import copy
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import torch
from conftest import REQUESTS, VOCABULARY, make_model, make_tokenizer
from safetensors.torch import load_file, save_file

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.search import GCGConfig, attack_many
from safety_geometry.attacks.gcg.suffix import allowed_tokens, initial_suffix
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.generation import generate
from safety_geometry.models.loading import add_lora
from safety_geometry.models.processes import ONE, Ranks, RanksError, launched, shard
from safety_geometry.models.runner import Runner
from safety_geometry.training.loop import TrainConfig, Trainer
from safety_geometry.training.pool import Pool, PoolConfig, clean_rows

STEPS, HALF = 4, 2
# Three rows in parts of one: of two ranks one has two passes and the other one.
CONFIG = TrainConfig(learning_rate=5e-3, schedule_steps=10, rows=3, micro_rows=1, weight_decay=0.1, clip=1.0)
POOLS = {
    "r2d2": PoolConfig(size=4, per_step=2, reset_every=2, reset_share=0.5, refresh=True, plain_toward=True),
    "frozen": PoolConfig(size=3, per_step=2, reset_every=2, reset_share=0.5, refresh=False),
    "sft": None,
}
ROWS = {"frozen": 1}  # clean rows, where they are not CONFIG's: one of two ranks has none
GCG = GCGConfig(steps=2, width=13, top_k=20, suffix_length=3, batch_size=3)
BEHAVIOURS = [{"id": f"b{i}", "prompt": f"List {i} warm kitchens", "target": f"Sure, here are {i}"} for i in range(8)]
CLEAN = [{"prompt": q, "response": a} for q, a in zip(REQUESTS, ["Warm", "In one line", "a list of ideas", "x", "The sea and the wind"], strict=True)]  # fmt: skip
TARGETS = ["Sure, here is a list", "Sure", "Sure, here is a short poem about the sea"]
ATTACKS = {
    "plain": {},
    "all": {"merge": 4, "buffer": 2, "mellowmax": 2.0},
    "head": {"probe": {"layers": 1, "share": 4, "reduction": 2}, "merge": 3},
    "gradient": {"probe": {"layers": 1, "share": 4, "reduction": 2, "draft": "gradient"}},
    "few": {"width": 1},  # of one case: fewer candidates than ranks
}
SHARDED = ("all", "gradient", "few")  # those that are made on sharded weights too
SEEDS = [5, 6, 7]


class Exact(Runner):
    """Logits in the model's own float64, where the project's are float32: sums then agree however they are cut."""

    def logits(self, h):
        return self.head_weight(self.body.norm(h))


class Cases:
    def __init__(self):
        self.tokenizer = make_tokenizer()
        self.chat = ChatFormat(self.tokenizer)
        self.model = make_model(layers=2)
        self.allowed = allowed_tokens(self.tokenizer, VOCABULARY + 40)

    def adapted(self, ranks: Ranks = ONE, double: bool = True, dropout: float = 0.0):
        """The model with an adapter that is not zero (else half of its gradients would be)."""
        model = copy.deepcopy(self.model)
        lora = add_lora(model, 4, 8, dropout, ["q_proj", "v_proj"], seed=1)
        lora = lora.double() if double else lora
        generator = torch.Generator().manual_seed(3)
        for name, p in lora.named_parameters():
            if "lora_B" in name:
                p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        if ranks.sharded:
            shard(lora, model.model.layers, "cpu")
        return lora.eval(), (Exact if double else Runner)(model)

    def trainer(self, regime: str, ranks: Ranks = ONE, **options) -> Trainer:
        config = replace(CONFIG, rows=ROWS.get(regime, CONFIG.rows))
        model, runner = self.adapted(ranks, **options)
        pool = None if POOLS[regime] is None else Pool(POOLS[regime], GCG, BEHAVIOURS, self.chat, 1)
        return Trainer(
            model, runner, self.chat, config, clean_rows(self.chat, CLEAN, 100), pool, self.allowed, 1, ranks
        )

    def attack(self, name: str, ranks: Ranks = ONE, seeds=SEEDS) -> list[dict]:
        _, runner = self.adapted(ranks)
        config = GCGConfig(**({"steps": 2, "width": 20, "top_k": 40, "suffix_length": 5} | ATTACKS[name]))
        pairs = zip(REQUESTS, TARGETS, (5, 3, 7), strict=False)
        suffixes = [initial_suffix(self.chat, q, t, " !", n) for q, t, n in pairs]
        if name == "few":
            suffixes, seeds = suffixes[:1], seeds[:1]
        batch = BatchSize.on(runner.device, 7, ranks)
        found = attack_many(runner, self.chat, suffixes, config, self.allowed, seeds, batch=batch, verify=name != "few")
        return [{"ids": r.suffix.ids, "losses": r.losses, "scored": r.scored, "rejected": r.rejected} for r in found]

    def answers(self, trainer: Trainer) -> list:
        """What the monitor does between two steps."""
        trainer.model.eval()
        prompts = [r.ids for r in self.chat.render_many(REQUESTS[:3])]
        found = generate(trainer.runner, prompts, self.chat.stop_ids, 5, 2, self.chat.n_prefix)
        return [list(c.ids) for c in found]


def run(trainer: Trainer, to: int, after=None) -> list[dict]:
    """Log lines; with the pool's cases after every step."""
    log = []

    def told(line) -> None:
        log.append(asdict(line) | {"pool": trainer.pool and trainer.pool.state()} | (after(trainer) if after else {}))

    trainer.advance(to, told)
    return log


def save(trainer: Trainer, stem: Path) -> None:
    tensors, rest = trainer.state()
    save_file(tensors, stem.with_suffix(".safetensors"))
    stem.with_suffix(".json").write_text(json.dumps(rest))


def restore(trainer: Trainer, stem: Path) -> Trainer:
    trainer.restore(load_file(stem.with_suffix(".safetensors")), json.loads(stem.with_suffix(".json").read_text()))
    return trainer


def error(call) -> str:
    try:
        call()
    except RanksError as raised:
        return str(raised)
    return "none"


def _several(cases: Cases, ranks: Ranks, folder: Path, reference) -> dict:
    """Everything that takes more than one process."""
    found = {"logs": {}, "attacks": {}, "sharded": {}}
    for regime in POOLS:
        trainer = cases.trainer(regime, ranks)
        log = run(trainer, HALF)
        if ranks.first:
            save(trainer, folder / f"two-{regime}-half")
        found["logs"][regime] = log + run(trainer, STEPS)
        save(trainer, folder / f"two-{regime}-{ranks.rank}")
    reference.wait()
    found["resumed"] = run(restore(cases.trainer("r2d2", ranks), folder / "one-r2d2-half"), STEPS)
    dropped = [cases.trainer("sft", ranks, dropout=0.5) for _ in range(2)]
    found["dropout"] = [run(trainer, 1)[0]["loss"] for trainer in dropped]
    for name in ATTACKS:
        found["attacks"][name] = cases.attack(name, ranks)

    # Weights spread over the ranks.
    spread = replace(ranks, sharded=True)
    for regime in ("r2d2", "frozen"):
        trainer = cases.trainer(regime, spread)
        found["sharded"][regime] = run(trainer, HALF, lambda t: {"answers": cases.answers(t)})
        save(trainer, folder / f"sharded-{regime}-{ranks.rank}")
    weights = [p for p in trainer.runner.layers.parameters() if not p.requires_grad]
    found["held"] = [sum(p.to_local().numel() for p in weights), sum(p.numel() for p in weights)]
    if ranks.first:
        trainer.model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    found["sharded_attacks"] = {name: cases.attack(name, spread) for name in SHARDED}

    # What must not be.
    found["other candidates"] = error(lambda: cases.attack("plain", ranks, seeds=[5, 6, 7 + ranks.rank]))
    trainer = cases.trainer("sft", ranks)
    with torch.no_grad():
        next(iter(trainer.parameters.values()))[0, 0] += 1e-12 * ranks.rank
    found["other adapter"] = error(lambda: run(trainer, 1))

    # A parameter without a gradient on one rank, or on any.
    layers = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    layers[0].grad = torch.tensor([1.0, 2.0]) * (ranks.rank + 1)
    layers[1].grad = torch.tensor([5.0, 7.0]) if ranks.rank else None
    ranks.add_gradients(layers)
    found["gradients"] = [p.grad if p.grad is None else p.grad.tolist() for p in layers]
    found["sums"] = [*ranks.sum(1.5, ranks.rank), ranks.least(7 - ranks.rank), *ranks.of_first(3.0 + ranks.rank)]
    return found


def rank_main(rank: int, world: int, port: int, folder: Path, reference) -> None:
    """A process as a launcher starts it. `reference`: an event, set when the states of one process are in `folder`."""
    file = os.open(folder / f"rank{rank}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 2)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in names.items()}
    torch.set_num_threads(1)
    cases = Cases()
    with launched("cpu") as ranks:
        (folder / f"rank{rank}.json").write_text(json.dumps(_several(cases, ranks, folder, reference)))
        # A rank that dies: the other must not wait for it.
        if not ranks.first:
            os._exit(3)
        ranks.sum(1.0)
