"""Operators on prompt templates, for AutoDAN: sentence crossover, synonyms, word scores. All offline.

A template is text with the placeholder `[REQUEST]` exactly once. Every operator gives templates again: the sentence
that holds the placeholder is found first, and crossover cuts around it, so a request is never lost or doubled.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

PLACEHOLDER = "[REQUEST]"
REWRITE = 0.25  # share of the words with synonyms that a mutation rewrites
WORDS_PER_PARAGRAPH = 5  # AutoDAN-HGA: words of one paragraph that a word step changes at the most

# A sentence ends with . ! ? or the placeholder, maybe quoted, or with its line.
_BREAK = re.compile(r"((?<=[.!?\]])\s+|(?<=[.!?\]][\"')])\s+|\s*\n\s*)")
_WORD = re.compile(re.escape(PLACEHOLDER) + r"|[A-Za-z]+(?:'[a-z]+)?")

Sentence = tuple[str, str]
"""(what separates it from the sentence before it, its text)."""


def check_template(template: str, where: str) -> None:
    """ValueError, without the text, unless the placeholder occurs exactly once."""
    if (n := template.count(PLACEHOLDER)) != 1:
        raise ValueError(f"{where} has the placeholder {PLACEHOLDER} {n} times; write it exactly once")


def fill(template: str, request: str) -> str:
    """The prompt: the template with the request in place of the placeholder."""
    return template.replace(PLACEHOLDER, request, 1)


def sentences(template: str) -> list[Sentence]:
    """The sentences in order, each with the white space before it (a new paragraph stays one)."""
    pieces = _BREAK.split(template.strip())
    return list(zip(["", *pieces[1::2]], pieces[::2], strict=True))


def join(parts: Sequence[Sentence]) -> str:
    """The text of sentences in this order; a sentence that came first elsewhere gets a space before it."""
    return "".join(text if i == 0 else (gap or " ") + text for i, (gap, text) in enumerate(parts))


def crossover(a: str, b: str, points: int, rng: np.random.Generator) -> tuple[str, str]:
    """Multi-point crossover of two templates at sentence borders: two children that hold their parents' sentences.

    The sentences are set side by side, those before the request counted from the start, the request's own, and those
    after it; what one parent has more of is one piece. At most `points` cuts are drawn; the pieces between them change
    parents in turn.
    """
    left, right = _aligned(sentences(a), sentences(b))
    cuts = set((rng.permutation((len(left) - 1))[:points] + 1).tolist())
    one, two = [], []
    for i, (of_a, of_b) in enumerate(zip(left, right, strict=True)):
        if i in cuts:
            one, two = two, one
        one += of_a
        two += of_b
    if len(cuts) % 2:  # so that the first child begins as `a` does
        one, two = two, one
    return join(one), join(two)


def _aligned(a: list[Sentence], b: list[Sentence]) -> tuple[list[list[Sentence]], list[list[Sentence]]]:
    """Two equally long lists of pieces: single sentences and surplus before the request, its own, the same after it."""
    i, j = _anchor(a), _anchor(b)
    before, after = min(i, j), min(len(a) - i, len(b) - j) - 1

    def pieces(parts: list[Sentence], anchor: int) -> list[list[Sentence]]:
        head, tail = parts[:anchor], parts[anchor + 1 :]
        return [
            *([x] for x in head[:before]),
            head[before:],
            [parts[anchor]],
            *([x] for x in tail[:after]),
            tail[after:],
        ]

    left, right = pieces(a, i), pieces(b, j)
    kept = [k for k in range(len(left)) if left[k] or right[k]]
    return [left[k] for k in kept], [right[k] for k in kept]


def _anchor(parts: Sequence[Sentence]) -> int:
    return next(i for i, (_, text) in enumerate(parts) if PLACEHOLDER in text)


def both_ways(synonyms: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The table with its reverse: a word that was put in by a synonym can be taken out again."""
    table: dict[str, list[str]] = {word.lower(): [] for word in synonyms}
    pairs = [(word.lower(), other.lower()) for word, others in synonyms.items() for other in others]
    for word, other in pairs:
        table[word].append(other)
    for word, other in pairs:
        table.setdefault(other, []).append(word)
    return {word: tuple(dict.fromkeys(o for o in others if o != word)) for word, others in table.items()}


def words(template: str) -> set[str]:
    """The lower-cased words of a template, without the placeholder."""
    return {m.group().lower() for m in _WORD.finditer(template) if m.group() != PLACEHOLDER}


def mutate(template: str, seeds: Sequence[str], table: Mapping[str, Sequence[str]], rng: np.random.Generator) -> str:
    """One mutation: a sentence of some seed takes the place of one of the template's, or words become synonyms.

    Each with even chance, in place of the language model that AutoDAN asks for a paraphrase; `table` from `both_ways`.
    """
    if rng.random() < 0.5:
        parts = sentences(template)
        donors = [s for s in sentences(seeds[rng.integers(len(seeds))]) if PLACEHOLDER not in s[1]]
        free = [i for i, (_, text) in enumerate(parts) if PLACEHOLDER not in text]
        if free and donors:
            i = free[rng.integers(len(free))]
            parts[i] = (parts[i][0], donors[rng.integers(len(donors))][1])
            return join(parts)
    return rewrite(template, table, rng)


def rewrite(template: str, table: Mapping[str, Sequence[str]], rng: np.random.Generator) -> str:
    """A quarter of the words that have synonyms, drawn at random (at least one), become one of them."""
    places = _replaceable(template, table)
    count = min(len(places), max(1, round(REWRITE * len(places))))
    chosen = sorted(rng.permutation(len(places))[:count].tolist())
    changes = [(places[i], _options(template, places[i], table)[1:]) for i in chosen]
    return _replace(template, [(m, options[rng.integers(len(options))]) for m, options in changes])


def word_scores(
    old: Mapping[str, float], templates: Sequence[str], losses: Sequence[float], vocabulary: Iterable[str]
) -> dict[str, float]:
    """AutoDAN-HGA's momentum: a word's score is the mean of its old score and the mean −loss of the templates with it.

    A new word starts with that mean; a word in none of the templates keeps its score. Only words of `vocabulary` (those
    that a replacement can put in or take out) are scored.
    """
    vocabulary = set(vocabulary)
    seen: dict[str, list[float]] = {}
    for template, loss in zip(templates, losses, strict=True):
        for word in sorted(words(template) & vocabulary):
            seen.setdefault(word, []).append(-loss)
    new = {word: math.fsum(values) / len(values) for word, values in seen.items()}
    return {**old, **{word: (old[word] + value) / 2 if word in old else value for word, value in new.items()}}


def word_probabilities(options: Sequence[str], scores: Mapping[str, float]) -> np.ndarray:
    """Roulette over words that could stand in one place, [len(options)]: softmax of their standardised scores.

    A word without a score gets the mean of all scores. The released code gives it 0, which beats every word that was
    tried, since scores are negative losses. Standardised (by the mean and deviation of all scores), because losses of
    whole prompts differ too little from word to word for a plain softmax to tell them apart.
    """
    values = list(scores.values())
    mean = math.fsum(values) / len(values) if values else 0.0
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)) if values else 0.0
    z = np.array([(scores.get(w, mean) - mean) / spread if spread > 0 else 0.0 for w in options])
    weights = np.exp(z - z.max())
    return weights / weights.sum()


def replace_words(
    template: str,
    table: Mapping[str, Sequence[str]],
    scores: Mapping[str, float],
    probability: float,
    rng: np.random.Generator,
) -> str:
    """AutoDAN-HGA's word step: words give way to synonyms by roulette on the scores; the word itself is an option.

    Each word that has synonyms is considered with `probability`, at most five a paragraph, drawn at random (the
    released code takes the first five, and never reaches the rest).
    """
    places = _replaceable(template, table)
    considered = [m for m in places if rng.random() < probability]
    paragraphs: dict[int, list[re.Match]] = {}
    for m in considered:
        paragraphs.setdefault(template.count("\n", 0, m.start()), []).append(m)
    changes = []
    for matches in paragraphs.values():
        for i in sorted(rng.permutation(len(matches))[:WORDS_PER_PARAGRAPH].tolist()):
            options = _options(template, matches[i], table)
            changes.append((matches[i], options[rng.choice(len(options), p=word_probabilities(options, scores))]))
    return _replace(template, changes)


def _replaceable(template: str, table: Mapping[str, Sequence[str]]) -> list[re.Match]:
    return [m for m in _WORD.finditer(template) if len(_options(template, m, table)) > 1]


def _options(template: str, place: re.Match, table: Mapping[str, Sequence[str]]) -> list[str]:
    """The word itself and its synonyms; after "a" or "an" only those that this article suits."""
    word = place.group().lower()
    if place.group() == PLACEHOLDER:
        return [word]
    article = re.search(r"\b(an?) $", template[max(0, place.start() - 4) : place.start()], re.IGNORECASE)
    others = table.get(word, ())
    if article:
        others = [o for o in others if (o[0] in "aeiou") == (len(article.group(1)) == 2)]
    return [word, *others]


def _replace(template: str, changes: Sequence[tuple[re.Match, str]]) -> str:
    """Put words in places, in the case (lower, Capitalised, UPPER) of what stands there."""
    out, end = [], 0
    for m, word in sorted(changes, key=lambda c: c[0].start()):
        was = m.group()
        if word != was.lower():
            word = word.upper() if was.isupper() and len(was) > 1 else word.capitalize() if was[0].isupper() else word
            out += [template[end : m.start()], word]
            end = m.end()
    return "".join(out) + template[end:]
