"""The tokenizer of a model folder."""

from pathlib import Path

from safety_geometry.models.configuration import ModelError, first_line


def load_tokenizer(folder: Path):
    """The tokenizer of a model folder: its tokenizer.json as it stands, where it has one.

    `AutoTokenizer` builds some families' tokenizers anew (Qwen 2's, whatever tokenizer.json says), with other tokens.

    Raises:
        ModelError: there is none that can be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").exists() else AutoTokenizer
    try:
        return kind.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # those of the tokenizers library are plain Exceptions
        raise ModelError(f"its tokenizer cannot be read ({first_line(error)}); a tokenizer.json is needed") from error


def check_vocabulary(tokenizer, vocabulary: int) -> None:
    """Raise ModelError when the tokenizer knows ids that the model has no embedding for. Fewer are well: embeddings are
    padded."""
    known = max(len(tokenizer), max(tokenizer.get_vocab().values(), default=-1) + 1)
    if known > vocabulary:
        raise ModelError(f"the tokenizer has {known} tokens and the model {vocabulary}: they do not belong together")
