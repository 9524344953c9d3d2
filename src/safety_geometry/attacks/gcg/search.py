"""Greedy coordinate gradient (GCG): a suffix after the request that makes a given answer opening likely.

One engine for R2D2's pool, for fixed-source and for adaptive attacks (Zou et al. 2023, arXiv 2307.15043; what differs
is in the docstrings). Cases are attacked together, in step, and each has a random stream of its own: which others share
its batch changes the rounding of its losses and nothing else.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.candidates import choices, draws, echo_phrase, merged, propose
from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.losses import check_agreement, uncached_loss
from safety_geometry.attacks.gcg.scoring import Current, look, prefix, score
from safety_geometry.attacks.gcg.screening import Score, scorer
from safety_geometry.attacks.gcg.suffix import Suffix, surviving
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.runner import Runner


@dataclass
class GCGResult:
    """suffix: the best one, its `loss` the objective as the search saw it; losses: best objective after every step, the
    first before any; scored: candidates evaluated exactly; rejected: those that did not re-tokenise; tokens: processed,
    padding not counted (a backward pass counts as two forward ones, a draft by its share of the blocks); stopped:
    `loss`, `exact`, `stop` (the caller's), `steps` or `stuck` (no candidate survived re-tokenisation); loss: target
    cross-entropy recomputed by a plain forward pass; batch_size: rows of a forward pass at the end."""

    suffix: Suffix
    losses: list[float] = field(default_factory=list)
    scored: int = 0
    rejected: int = 0
    tokens: int = 0
    stopped: str = "steps"
    loss: float = float("nan")
    batch_size: int = 0


def attack(
    runner: Runner,
    chat: ChatFormat,
    suffix: Suffix,
    config: GCGConfig,
    allowed: Tensor,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
    **options,
) -> GCGResult:
    """`attack_many` of one case. `progress` is told (step, best loss)."""
    of_one = None if progress is None else lambda _, step, loss: progress(step, loss)
    return attack_many(runner, chat, [suffix], config, allowed, [seed], of_one, **options)[0]


def attack_many(
    runner: Runner,
    chat: ChatFormat,
    suffixes: Sequence[Suffix],
    config: GCGConfig,
    allowed: Tensor,
    seeds: Sequence[int],
    progress: Callable[[int, int, float], None] | None = None,
    stop: Callable[[int, dict[int, Suffix]], Collection[int]] | None = None,
    state: dict | None = None,
    save: Callable[[dict], None] | None = None,
    batch: BatchSize | None = None,
    verify: bool = True,
) -> list[GCGResult]:
    """Run `config.steps` GCG steps from each of `suffixes`, always keeping the best suffix seen.

    A case's candidates depend on its seed, the step and its losses. A step in which no candidate re-tokenises to itself
    changes nothing.

    Args:
        allowed: [V] boolean, tokens that a suffix may be made of.
        progress: is told (case, step, best loss) after every step.
        stop: is shown (step, best suffixes of the cases still searched, by case) before the first and after every step,
            and names the cases that are done: an adaptive attack asks its judge here.
        state: what `save` was given: goes on from there, with the same result as one go. `config.steps` and
            `batch_size` may be others than then.
        save: is given the state after every step, a dict that JSON can hold.
        batch: remembers a batch size that memory forced, from call to call; and the ranks that share the candidates
            out. They get the same arguments and the same results.
        verify: recompute the final loss without caches; without it `loss` is the objective that the search saw.

    Raises:
        ValueError: a state of another attack, or as many seeds as suffixes are missing.
        CacheError: the recomputed loss is another one.
        RanksError: the ranks of `batch` differ in a candidate, or in what they keep.
    """
    if len(seeds) != len(suffixes):
        raise ValueError(f"{len(suffixes)} suffixes and {len(seeds)} seeds: each case needs its own")
    batch = batch or BatchSize.on(runner.device, config.batch_size)
    print_of = _fingerprint(chat, suffixes, config, seeds)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    cases, step, looked = [_Case([s], tokens=s.start) for s in suffixes], 0, None
    if state is not None:
        cases, step = _restored(state, print_of, suffixes, batch)
        for suffix, generator in zip(suffixes, generators, strict=True):
            for _ in range(step):  # the stream goes on where it was left
                draws(len(suffix.tokens), config, choices(config, allowed), generator)
    prefixes = [prefix(runner, s) for s in suffixes]
    scoring = scorer(runner, config.probe, batch.ranks.sharded)

    def open_cases() -> list[int]:
        return [i for i, case in enumerate(cases) if not case.stopped]

    def look_at(searched: list[int]) -> dict[int, Current]:
        now = [cases[i].turn for i in searched]
        layer = config.probe.layers if config.probe is not None and config.probe.draft == "gradient" else None
        before, gradient = [prefixes[i] for i in searched], config.steps > 0
        currents = look(runner, now, before, batch, config.mellowmax, gradient, layer, config.lsgm)
        for i in searched:
            cases[i].tokens += (3 if config.steps else 1) * (len(suffixes[i].ids) - 1 - suffixes[i].start)
        return dict(zip(searched, currents, strict=True))

    def settle() -> None:
        for i in open_cases():
            cases[i].check(config)
        if stop is not None and open_cases():
            for i in set(stop(step, {i: cases[i].best for i in open_cases()})) & set(open_cases()):
                cases[i].stopped = "stop"

    if state is None and cases:
        looked = look_at(open_cases())
        for i, current in looked.items():
            cases[i].begin(current)
        settle()
    while step < config.steps and open_cases():
        own = open_cases()
        looked = look_at(own) if looked is None else {i: looked[i] for i in own}
        _step(
            runner,
            chat,
            [cases[i] for i in own],
            list(looked.values()),
            config,
            allowed,
            [generators[i] for i in own],
            batch,
            scoring,
        )
        step, looked = step + 1, None
        batch.ranks.check("suffixes after a GCG step", [[(s.ids, s.loss) for s in cases[i].kept] for i in own])
        for size in batch.both:
            size.rows = batch.ranks.least(size.rows)
        if progress is not None:
            for i in own:
                progress(i, step, cases[i].best.loss)
        settle()
        if save is not None:
            rows, states = [size.rows for size in batch.both], [case.state() for case in cases]
            now = {"attack": print_of, "step": step, "rows": rows, "cases": states}
            save(json.loads(json.dumps(now)))  # a copy: what comes later must not change it
    return [_result(runner, case, config, batch, verify) for case in cases]


@dataclass
class _Case:
    """Where the attack on one case stands. kept: the best suffix and those of the buffer, best first; exact: whether
    greedy decoding of the best gives the target; failures: steps since the best was found; followed: the direction of
    the last step, with momentum."""

    kept: list[Suffix]
    losses: list[float] = field(default_factory=list)
    exact: bool = False
    failures: int = 0
    scored: int = 0
    rejected: int = 0
    tokens: int = 0
    stopped: str = ""
    followed: Tensor | None = None

    @property
    def best(self) -> Suffix:
        return self.kept[0]

    @property
    def turn(self) -> Suffix:
        """The suffix that the next step starts from: the best, then the buffer's in turn."""
        return self.kept[self.failures % len(self.kept)]

    def begin(self, current: Current) -> None:
        self.kept = [self.best.changed(self.best.tokens, self.best.text, current.loss)]
        self.losses, self.exact = [current.loss], current.exact

    def take(self, candidate: Suffix | None, exact: bool, buffer: int) -> None:
        """Keep what a step found, if it is good enough."""
        self.failures += 1
        if candidate is not None and candidate.loss < self.best.loss:
            self.exact, self.failures = exact, 0
        if candidate is not None and all(candidate.ids != s.ids for s in self.kept):
            self.kept = sorted([*self.kept, candidate], key=lambda s: s.loss)[: buffer + 1]
        self.losses.append(self.best.loss)

    def direction(self, gradient: Tensor, momentum: float) -> Tensor:
        """What the candidates of a step follow, [n, V]: the gradient, or its running mean."""
        if not momentum:
            return gradient
        before = gradient if self.followed is None else self.followed.to(gradient)
        self.followed = momentum * before + (1 - momentum) * gradient
        return self.followed

    def check(self, config: GCGConfig) -> None:
        if self.best.loss <= config.stop_loss:
            self.stopped = "loss"
        elif config.stop_exact and self.exact:
            self.stopped = "exact"

    def state(self) -> dict:
        kept = [[list(s.tokens), s.text, s.loss] for s in self.kept]
        return asdict(replace(self, followed=None)) | {"kept": kept, "followed": _packed(self.followed)}


def _step(
    runner: Runner,
    chat: ChatFormat,
    cases: list[_Case],
    looked: list[Current],
    config: GCGConfig,
    allowed: Tensor,
    generators: list[torch.Generator],
    batch: BatchSize,
    scoring: Score,
) -> None:
    """Propose, filter, score (`scoring`; what is merged of it, exactly) and keep, for all cases at once."""
    proposed = [
        propose(
            case.direction(c.gradient, config.momentum),
            c.suffix,
            config,
            allowed,
            generator,
            echo_phrase(chat, c.suffix, allowed),
        )
        for case, c, generator in zip(cases, looked, generators, strict=True)
    ]
    rows, texts = _filtered(chat, cases, looked, proposed)
    scored = scoring(looked, rows, batch, config.mellowmax)
    rounds = [(rows, texts, scored)]
    if config.merge > 1:
        rows, texts = _filtered(
            chat,
            cases,
            looked,
            [merged(c.suffix, r, f.losses, c.loss, config.merge) for c, r, f in zip(looked, rows, scored, strict=True)],
            count=False,
        )
        rounds.append((rows, texts, score(runner, looked, rows, batch, config.mellowmax)))
    for i, (case, current) in enumerate(zip(cases, looked, strict=True)):
        best, exact = None, False
        for rows, texts, scored in rounds:
            case.tokens += scored[i].tokens
            real = scored[i].losses.isfinite()
            case.scored += int(real.sum())
            losses = scored[i].losses.where(real, torch.inf)  # one candidate without a loss must not cost the others
            if real.any() and (best is None or losses.min() < best.loss):
                k = int(losses.argmin())
                best = current.suffix.changed(rows[i][k].tolist(), texts[i][k], float(losses[k]))
                exact = bool(scored[i].exact[k])
        case.take(best, exact, config.buffer)


def _filtered(
    chat: ChatFormat, cases: list[_Case], looked: list[Current], proposed: list[Tensor], count: bool = True
) -> tuple[list[Tensor], list[list[str]]]:
    """The candidates that re-tokenise to themselves, and their texts."""
    texts = surviving(chat, [current.suffix for current in looked], [p.tolist() for p in proposed])
    kept = [[r for r, text in enumerate(survivors) if text is not None] for survivors in texts]
    for case, survivors, all_rows in zip(cases, kept, proposed, strict=True):
        case.rejected += (len(all_rows) - len(survivors)) * count
    rows = [all_rows[survivors] for all_rows, survivors in zip(proposed, kept, strict=True)]
    return rows, [[text for text in survivors if text is not None] for survivors in texts]


def _result(runner: Runner, case: _Case, config: GCGConfig, batch: BatchSize, verify: bool) -> GCGResult:
    stopped = case.stopped or ("stuck" if case.rejected and not case.scored else "steps")
    loss, tokens = case.best.loss, case.tokens
    if verify:
        tokens += len(case.best.ids)
        loss = uncached_loss(runner, case.best)
        plain = loss if config.mellowmax is None else uncached_loss(runner, case.best, config.mellowmax)
        check_agreement(runner, case.best.loss, plain, "final loss of a GCG attack")
    return GCGResult(case.best, case.losses, case.scored, case.rejected, tokens, stopped, loss, batch.rows)


def _restored(state: dict, print_of: str, suffixes: Sequence[Suffix], batch: BatchSize) -> tuple[list[_Case], int]:
    if state["attack"] != print_of:
        raise ValueError("the saved GCG state is of another attack (cases, settings or seeds differ)")
    if batch.adaptive:
        for size, rows in zip(batch.both, state["rows"], strict=True):
            size.recall(rows)
    cases = []
    for row, suffix in zip(state["cases"], suffixes, strict=True):
        kept = [suffix.changed(tokens, text, loss) for tokens, text, loss in row["kept"]]
        own = {"kept": kept, "losses": list(row["losses"]), "followed": _unpacked(row["followed"])}
        cases.append(_Case(**(row | own)))
    return cases, state["step"]


def _packed(tensor: Tensor | None) -> dict | None:
    """A matrix as JSON can hold it, to the last bit: written out in digits it would be five times as long."""
    if tensor is None:
        return None
    data = base64.b64encode(tensor.detach().cpu().contiguous().numpy().tobytes()).decode()
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "data": data}


def _unpacked(packed: dict | None) -> Tensor | None:
    if packed is None:
        return None
    data = bytearray(base64.b64decode(packed["data"]))
    return torch.frombuffer(data, dtype=getattr(torch, packed["dtype"])).reshape(packed["shape"])


def _fingerprint(chat: ChatFormat, suffixes: Sequence[Suffix], config: GCGConfig, seeds: Sequence[int]) -> str:
    """Of all that decides what is drawn and kept; not of how far to go, nor of the model."""
    search = {k: v for k, v in asdict(config).items() if k not in ("steps", "batch_size")}
    whole = json.dumps([chat.digest, [list(s.ids) for s in suffixes], search, list(seeds)])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]
