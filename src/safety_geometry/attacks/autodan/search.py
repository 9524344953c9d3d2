"""AutoDAN: a readable prompt around the request that makes a given answer opening likely, by a genetic algorithm.

Two forms: `ga` as in HarmBench, and `hga`, the hierarchical one (Liu et al. 2024, arXiv 2310.04451), in which four of
five steps choose words. Seeds, crossover and mutation are offline (`mutation`); the unoptimised seeds are scored first,
as generation 0, and reported beside the result: on many models they alone do the work.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from safety_geometry.attacks.autodan.fitness import Fitness, digest
from safety_geometry.attacks.autodan.mutation import (
    both_ways,
    check_template,
    crossover,
    fill,
    mutate,
    replace_words,
    rewrite,
    word_scores,
)
from safety_geometry.attacks.operations import operations
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.memory import BatchSize
from safety_geometry.models.runner import Runner

WORD_STEPS = 5  # HGA: of so many steps, the first crosses sentences and the others choose words


@dataclass(frozen=True)
class AutoDANConfig:
    """form: `ga` or `hga`; steps: generations after the seeds; population: prompts of a generation; elites: share that
    survives unchanged (at least one); crossover: probability that two parents are crossed, and that a word step
    considers a word; points: cuts of a crossover; mutation: probability that an offspring is mutated; batch_size:
    prompts of one forward pass; stop_loss: stop when the loss falls to it; max_prompt_tokens: longer rendered prompts
    are dropped.
    """

    form: str
    steps: int
    population: int
    elites: float = 0.1
    crossover: float = 0.5
    points: int = 5
    mutation: float = 0.01
    batch_size: int = 16
    stop_loss: float = 0.0
    max_prompt_tokens: int = 512

    def __post_init__(self) -> None:
        if self.form not in ("ga", "hga"):
            raise ValueError(f"AutoDAN's form is {self.form!r}; use 'ga' or 'hga'")
        if self.population < 2 or self.steps < 0 or self.batch_size < 1:
            raise ValueError(
                f"AutoDAN needs a population of at least 2, steps of at least 0 and a batch size of at least 1; "
                f"got {self.population}, {self.steps} and {self.batch_size}"
            )


@dataclass(frozen=True)
class AutoDANResult:
    """prompt, loss: the best prompt found and its target cross-entropy (nats a token), recomputed by a plain forward
    pass; seed_prompt, seed_loss, seed_index: the same of the best unoptimised seed, and which it is; losses: best loss
    after every generation, the first of the seeds alone; tokens: tokens processed, padding not counted; evaluated:
    different prompts scored; dropped: prompts that could not be rendered or were too long; stopped: `loss`, `steps`, or
    `unusable` (every seed was dropped: prompts empty, losses nan, index −1)."""

    prompt: str
    loss: float
    seed_prompt: str
    seed_loss: float
    seed_index: int
    losses: tuple[float, ...]
    tokens: int
    evaluated: int
    dropped: int
    stopped: str

    @property
    def usable(self) -> bool:
        """Whether there is a prompt to ask."""
        return self.stopped != "unusable"


def numbers(runner: Runner, config: AutoDANConfig, result: AutoDANResult, rows: int) -> dict:
    """What the table of attacks says of it; `rows`: of a forward pass, when the attack was done."""
    start, loss = (result.seed_loss, result.loss) if result.usable else (math.nan, math.nan)
    return {
        "behaviours": 1,
        "budget_steps": config.steps,
        "width": config.population,
        "steps": max(0, len(result.losses) - 1),
        "loss_start": start,
        "loss": loss,
        "candidates": result.evaluated,
        "rejected": result.dropped,
        "tokens": result.tokens,
        "operations": operations(runner.model, result.tokens),
        "batch_size": rows,
        "stopped": result.stopped,
    }


def autodan(
    runner: Runner,
    chat: ChatFormat,
    request: str,
    target: str,
    seeds: Sequence[str],
    synonyms: Mapping[str, Sequence[str]],
    config: AutoDANConfig,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
    state: dict | None = None,
    save: Callable[[dict], None] | None = None,
    batch: BatchSize | None = None,
) -> AutoDANResult:
    """Attack one behaviour from the seed templates, always keeping the best prompt seen.

    Generation 0 is the seeds, all of them; with `steps=0` that is all. The best go on if the population is smaller; if
    it is larger, the first step adds synonym rewritings. What is drawn depends on `seed` and the losses alone.

    Args:
        seeds: templates with the placeholder `[REQUEST]` once.
        synonyms: word -> words that may stand in its place.
        progress: is told (step, best loss) after every step.
        state: what `save` was given: goes on from there, with the same result as one go. `config.steps`, `stop_loss`
            and `batch_size` may be others than then.
        save: is given the state after generation 0 and every step, a dict that JSON can hold.
        batch: stands for `config.batch_size`, and remembers from behaviour to behaviour that memory made it smaller.

    Raises:
        ValueError: a seed without (or with more than) one placeholder, no seeds, or a state of another attack.
    """
    if not seeds:
        raise ValueError("AutoDAN needs at least one seed template")
    for i, template in enumerate(seeds):
        check_template(template, f"AutoDAN seed {i}")
    table = both_ways(synonyms)
    fitness = Fitness(runner, chat, request, target, batch or config.batch_size, config.max_prompt_tokens)
    attack = _fingerprint(chat, request, target, seeds, synonyms, config, seed)
    rng = np.random.default_rng(seed)
    if state is None:
        run = _first_generation(fitness, seeds, config)
    else:
        if state["attack"] != attack:
            raise ValueError("the saved AutoDAN state is of another attack (behaviour, seeds, settings or seed differ)")
        run = _Run(**{key: state[key] for key in _Run.__annotations__})
        fitness.restore(state["fitness"])
        rng.bit_generator.state = state["rng"]

    def saved() -> None:
        if save is not None:
            now = {"attack": attack, **asdict(run), "fitness": fitness.state(), "rng": rng.bit_generator.state}
            save(json.loads(json.dumps(now)))  # a copy: what comes later must not change it

    if state is None:
        saved()
    while run.population and run.step < config.steps and run.losses[-1] > config.stop_loss:
        run = _generation(run, fitness, seeds, table, config, rng)
        saved()
        if progress is not None:
            progress(run.step, run.losses[-1])
    return _result(run, fitness, seeds, config)


def roulette_probabilities(losses: Sequence[float]) -> np.ndarray:
    """softmax(−loss), [n]: the probability with which each of a generation becomes a parent."""
    weights = np.exp(min(losses) - np.asarray(losses, dtype=np.float64))
    return weights / weights.sum()


@dataclass(frozen=True)
class _Run:
    """Where an attack stands: population as [template, loss] (best first), word scores, the best seed (index, template,
    loss) or None, and the best loss after every generation."""

    step: int
    population: list
    words: dict[str, float]
    seed: list | None
    losses: list[float]


def _first_generation(fitness: Fitness, seeds: Sequence[str], config: AutoDANConfig) -> _Run:
    population = _ranked(seeds, fitness(seeds))
    if not population:
        return _Run(0, [], {}, None, [])
    template, loss = population[0]
    return _Run(0, population[: config.population], {}, [list(seeds).index(template), template, loss], [loss])


def _generation(run: _Run, fitness: Fitness, seeds: Sequence[str], table, config: AutoDANConfig, rng) -> _Run:
    """One step: elites and offspring; places that dropped offspring leave are filled by the best of the old
    generation."""
    old = run.population
    if len(old) < config.population:  # few seeds: synonym rewritings of them, the best first
        extra = [rewrite(old[i % len(old)][0], table, rng) for i in range(config.population - len(old))]
        old = sorted([*old, *_ranked(extra, fitness(extra))], key=lambda row: row[1])
    templates, losses = [t for t, _ in old], [loss for _, loss in old]
    elites = min(max(1, round(config.elites * config.population)), config.population - 1)
    words = run.words
    if config.form == "hga" and run.step % WORD_STEPS:
        words = word_scores(words, templates, losses, table)
        offspring = [replace_words(t, table, words, config.crossover, rng) for t in templates[elites:]]
    else:
        offspring = _breed(templates, losses, config.population - elites, config, rng)
    offspring = [mutate(t, seeds, table, rng) if rng.random() < config.mutation else t for t in offspring]
    new = _ranked(offspring, fitness(offspring))
    spare = old[elites : config.population - len(new)]
    population = sorted([*old[:elites], *new, *spare], key=lambda row: row[1])
    return _Run(run.step + 1, population, words, run.seed, [*run.losses, population[0][1]])


def _breed(templates: list[str], losses: list[float], count: int, config: AutoDANConfig, rng) -> list[str]:
    """`count` offspring of parents drawn by roulette: two by two they are crossed, or stay as they are."""
    parents = [templates[i] for i in rng.choice(len(templates), count, p=roulette_probabilities(losses))]
    offspring = []
    for pair in zip(parents[::2], parents[1::2], strict=False):
        offspring += crossover(*pair, config.points, rng) if rng.random() < config.crossover else pair
    return [*offspring, *parents[len(offspring) :]]


def _ranked(templates: Sequence[str], losses: Sequence[float | None]) -> list:
    """[template, loss] of those that have a loss, best first; ties keep their order."""
    rows = [[t, loss] for t, loss in zip(templates, losses, strict=True) if loss is not None]
    return sorted(rows, key=lambda row: row[1])


def _result(run: _Run, fitness: Fitness, seeds: Sequence[str], config: AutoDANConfig) -> AutoDANResult:
    if run.seed is None:
        nan = float("nan")
        return AutoDANResult("", nan, "", nan, -1, (), fitness.tokens, 0, fitness.dropped, "unusable")
    index, seed_template, _ = run.seed
    best = run.population[0][0]
    loss, seed_loss = fitness.plain(best), fitness.plain(seed_template)
    return AutoDANResult(
        prompt=fill(best, fitness.request),
        loss=loss,
        seed_prompt=fill(seed_template, fitness.request),
        seed_loss=seed_loss,
        seed_index=index,
        losses=tuple(run.losses),
        tokens=fitness.tokens,
        evaluated=fitness.evaluated,
        dropped=fitness.dropped,
        stopped="loss" if run.losses[-1] <= config.stop_loss else "steps",
    )


def _fingerprint(chat: ChatFormat, request, target, seeds, synonyms, config: AutoDANConfig, seed: int) -> str:
    """Of all that decides what is drawn; not of how far to go, nor of the model."""
    search = {k: v for k, v in asdict(config).items() if k not in ("steps", "stop_loss", "batch_size")}
    table = [[word, list(others)] for word, others in synonyms.items()]
    return digest(json.dumps([chat.digest, request, target, list(seeds), table, search, seed]))
