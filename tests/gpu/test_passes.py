"""One pass at a time on CUDA: numbers as on the CPU, batches that shrink and grow, gradients that repeat."""

import copy
import warnings

import pytest
import torch

from safety_geometry.attacks.gcg.batches import BatchSize as AttackBatches
from safety_geometry.attacks.gcg.scoring import look, prefix, score
from safety_geometry.attacks.gcg.suffix import initial_suffix
from safety_geometry.geometry.activations import record
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.generation import generate
from safety_geometry.models.loading import configure
from safety_geometry.models.memory import BatchSize, LessMemory
from safety_geometry.models.runner import Runner

pytestmark = pytest.mark.usefixtures("needs_cuda")
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # relative to the largest value, CUDA against CPU in one dtype
NEVER = (3,)


@pytest.fixture
def pair(models, request):
    """Runners of one random model of a dtype, on the CPU and on CUDA; and its chat."""
    configure(1)
    model = models.make_model(hidden=64).to(request.param)
    yield Runner(model), Runner(copy.deepcopy(model).cuda()), ChatFormat(models.make_tokenizer())
    torch.use_deterministic_algorithms(False)


def close(found, wanted, dtype):
    scale = float(wanted.abs().max())
    assert float((found.cpu() - wanted).abs().max()) <= CLOSE[dtype] * scale


def cases(chat, models):
    return [initial_suffix(chat, request, "Sure, here", " !", 5) for request in models.REQUESTS[:3]]


@pytest.mark.parametrize("pair", CLOSE, indirect=True, ids=str)
def test_activations_losses_and_gradients_are_those_of_the_cpu(pair, models):
    cpu, cuda, chat = pair
    prompts = chat.render_many(models.REQUESTS)
    close(record(cuda, prompts, [-2, -1], 4), record(cpu, prompts, [-2, -1], 4), cpu.dtype)
    starts = cases(chat, models)
    looked = [look(r, starts, [prefix(r, s) for s in starts], AttackBatches(8), None) for r in (cpu, cuda)]
    for one, other in zip(*looked, strict=True):
        close(torch.tensor([other.loss]), torch.tensor([one.loss]), cpu.dtype)
        close(other.gradient, one.gradient, cpu.dtype)
    rows = [torch.tensor([s.tokens, s.tokens[::-1]]) for s in starts]
    scored = [score(r, now, rows, AttackBatches(8), None) for r, now in zip((cpu, cuda), looked, strict=True)]
    for one, other in zip(*scored, strict=True):
        close(other.losses, one.losses, cpu.dtype)


@pytest.mark.parametrize("pair", [torch.float32], indirect=True, ids=str)
def test_greedy_answers_are_those_of_the_cpu(pair, models):
    cpu, cuda, chat = pair
    ids = [prompt.ids for prompt in chat.render_many(models.REQUESTS)]
    want, found = (generate(runner, ids, NEVER, 12, 4) for runner in (cpu, cuda))
    same = sum(a == b for a, b in zip(want, found, strict=True))
    assert same >= len(ids) - 1  # a tie may fall the other way


@pytest.mark.parametrize("pair", [torch.float32], indirect=True, ids=str)
def test_gradients_of_attacks_repeat_bit_for_bit_without_a_warning(pair, models):
    _, cuda, chat = pair
    starts = cases(chat, models)

    def gradients():
        return [c.gradient for c in look(cuda, starts, [prefix(cuda, s) for s in starts], AttackBatches(8), None)]

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*deterministic.*")
        first = gradients()
        assert all(torch.equal(a, b) for _ in range(5) for a, b in zip(first, gradients(), strict=True))


@pytest.mark.parametrize("pair", [torch.float32], indirect=True, ids=str)
def test_batches_are_halved_at_a_cap_of_the_memory(pair):
    """What a job does whose part of the card is too small: the same answers, in smaller batches."""
    _, cuda, _ = pair
    prompts = [[5 + i % 40] * 400 for i in range(256)]
    total = torch.cuda.get_device_properties(0).total_memory

    def answers(size):
        return generate(cuda, prompts, NEVER, 4, size)

    want = answers(BatchSize(16, "answers"))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    answers(BatchSize(64, "answers"))
    enough = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(enough / total)
    size = BatchSize(256, "answers")
    with pytest.warns(LessMemory, match="answers: out of memory with 256 rows"):
        found = answers(size)
    assert (
        size.rows in (32, 64, 128) and sum(a == b for a, b in zip(want, found, strict=True)) >= 240
    )  # ties may fall otherwise
    grown = BatchSize(8, "answers", grows=True)
    assert answers(grown)[:8] and 8 < grown.rows <= 128  # growth ends at the cap too


@pytest.mark.parametrize("pair", [torch.float32], indirect=True, ids=str)
def test_rows_grow_and_give_the_same(pair, models):
    _, cuda, chat = pair
    prompts = chat.render_many(models.REQUESTS * 200)
    size = BatchSize(8, "activations", grows=True)
    found = record(cuda, prompts, [-1], size)
    assert size.rows >= 32  # a small model has by far too few rows at eight
    close(found, record(cuda, prompts, [-1], 64).cpu(), torch.float32)
