"""Forward passes of judges that are models: what every kind of them shares. Batches are sorted by length, longest first
(out of memory shows at once), and halved where memory is short."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from safety_geometry.models.memory import BatchSize


def clip_tokens(tokenizer, text: str, limit: int | None) -> str:
    """The text of its first `limit` tokens, a BOS counted where the tokenizer puts one (HarmBench), but not kept in the
    text (StrongREJECT's own code leaves it in). Text that is short enough comes back unchanged; None: any is."""
    if limit is None or len(ids := tokenizer(text)["input_ids"]) <= limit:
        return text
    return tokenizer.decode(ids[:limit], skip_special_tokens=True)


def cut_left(ids: Sequence[int], limit: int | None, bos: int | None) -> list[int]:
    """The last `limit` tokens, so that the end of a prompt, where the question stands, survives; its BOS is kept."""
    if limit is None or len(ids) <= limit:
        return list(ids)
    if bos is not None and ids[0] == bos:
        return [bos, *ids[len(ids) - limit + 1 :]]
    return list(ids[len(ids) - limit :])


def token_id(tokenizer, word: str) -> int:
    """Id of the token that says `word` in generated text: the last token of its encoding, with a leading space or
    without as the tokenizer has it. Raises ValueError when the word takes several tokens."""
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    pieces = [i for i in ids if tokenizer.decode([i]).strip()]
    if len(pieces) != 1:
        raise ValueError(f"{word!r} is not one token of this tokenizer but {len(pieces)}: it belongs to another judge")
    return pieces[0]


def last_logits(
    model, encoded: Sequence[Sequence[int]], token_ids: Sequence[int], batch_size: int | BatchSize
) -> NDArray[np.float64]:
    """Next-token logits of `token_ids` after each prompt of token ids, in their order, shape (n, tokens)."""
    wanted, out = list(token_ids), np.zeros((len(encoded), len(token_ids)))

    def compute(rows: list[int]) -> None:
        batch = _left_padded([encoded[i] for i in rows], model.device)
        positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        logits = model(**batch, position_ids=positions, logits_to_keep=1).logits[:, -1]
        out[rows] = logits[:, wanted].double().cpu().numpy()

    _run(compute, [len(ids) for ids in encoded], batch_size)
    return out


def written(
    model, tokenizer, encoded: Sequence[Sequence[int]], max_new_tokens: int, batch_size: int | BatchSize
) -> list[str]:
    """What the model writes after each prompt of token ids, greedily, without special tokens."""
    out = [""] * len(encoded)
    greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
    filler = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)

    def compute(rows: list[int]) -> None:
        batch = _left_padded([encoded[i] for i in rows], model.device)
        ids = model.generate(**batch, max_new_tokens=max_new_tokens, pad_token_id=filler, **greedy)
        texts = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(rows, texts, strict=True):
            out[i] = text

    _run(compute, [len(ids) for ids in encoded], batch_size)
    return out


def class_logits(model, tokenizer, encoded: Sequence[Mapping], batch_size: int | BatchSize) -> NDArray[np.float64]:
    """Logits of a sequence classifier for each row as its tokenizer encodes one, padded on the right, shape
    (n, labels)."""
    out = np.zeros((len(encoded), model.config.num_labels))

    def compute(rows: list[int]) -> None:
        batch = tokenizer.pad([encoded[i] for i in rows], padding_side="right", return_tensors="pt").to(model.device)
        out[rows] = model(**batch).logits.double().cpu().numpy()

    _run(compute, [len(row["input_ids"]) for row in encoded], batch_size)
    return out


@torch.inference_mode()
def _run(compute: Callable[[list[int]], None], lengths: Sequence[int], batch_size: int | BatchSize) -> None:
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    BatchSize.of(batch_size, "judge's prompts").run(compute, order, lambda i: lengths[i])


def _left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids)
    for k, row in enumerate(rows):
        ids[k, width - len(row) :] = torch.tensor(row, device=device)
        mask[k, width - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask}
