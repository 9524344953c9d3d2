"""Shapes of models: what memory, disk and time depend on. Nothing is loaded, and nothing has to be fetched."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}  # Phi 3's
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Shape:
    """A decoder. origin: where it is known from, for people."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    origin: str = ""

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Linear layers of a block: name -> (in, out)."""
        q, kv, d, i = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden, self.intermediate
        return {
            "q_proj": (d, q),
            "k_proj": (d, kv),
            "v_proj": (d, kv),
            "o_proj": (q, d),
            "gate_proj": (d, i),
            "up_proj": (d, i),
            "down_proj": (i, d),
        }

    @property
    def block(self) -> int:
        """Parameters of a block's linear layers."""
        return sum(a * b for a, b in self.matrices.values())

    @property
    def head(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * (self.block + 2 * self.hidden) + self.hidden + self.head * (1 if self.tied else 2)

    def lora(self, rank: int, targets: list[str]) -> int:
        """Parameters of a LoRA adapter."""
        matrices = self.matrices
        for name, parts in FUSED.items():
            matrices[name] = (self.hidden, sum(matrices[part][1] for part in parts))
        return self.layers * sum(rank * (a + b) for name, (a, b) in matrices.items() if name in targets)

    def describe(self) -> str:
        size = (
            f"{self.parameters / 1e9:.2f} billion" if self.parameters > 1e9 else f"{self.parameters / 1e6:.0f} million"
        )
        return f"{size} parameters, {self.layers} layers of width {self.hidden} ({self.origin})"


KNOWN = {
    "smollm2-135m": Shape(30, 576, 1536, 9, 3, 64, 49152, True),
    "smollm2-360m": Shape(32, 960, 2560, 15, 5, 64, 49152, True),
    "smollm2-1.7b": Shape(24, 2048, 8192, 32, 32, 64, 49152, True),
    "qwen2.5-0.5b": Shape(24, 896, 4864, 14, 2, 64, 151936, True),
    "qwen2.5-1.5b": Shape(28, 1536, 8960, 12, 2, 128, 151936, True),
    "qwen2.5-7b": Shape(28, 3584, 18944, 28, 4, 128, 152064, False),
    "gemma-2-2b": Shape(26, 2304, 9216, 8, 4, 256, 256000, True),
    "gemma-2b": Shape(18, 2048, 16384, 8, 1, 256, 256000, True),
    "gemma-2-9b": Shape(42, 3584, 14336, 16, 8, 256, 256000, True),
    "llama-3.2-1b": Shape(16, 2048, 8192, 32, 8, 64, 128256, True),
    "mistral-7b": Shape(32, 4096, 14336, 32, 8, 128, 32000, False),
    "zephyr-7b": Shape(32, 4096, 14336, 32, 8, 128, 32000, False),
    "llama-2-7b": Shape(32, 4096, 11008, 32, 32, 128, 32000, False),
    "llama-3.1-8b": Shape(32, 4096, 14336, 32, 8, 128, 128256, False),
    "llama-3.1-tulu-3-8b": Shape(32, 4096, 14336, 32, 8, 128, 128264, False),
    "llama-3-8b": Shape(32, 4096, 14336, 32, 8, 128, 128256, False),
    "olmo-2-0425-1b": Shape(16, 2048, 8192, 16, 16, 128, 100352, False),
    "olmo-2-1124-7b": Shape(32, 4096, 11008, 32, 32, 128, 100352, False),
    "olmo-3-7b": Shape(32, 4096, 11008, 32, 32, 128, 100278, False),
    "smollm3-3b": Shape(36, 2048, 11008, 16, 4, 128, 128256, True),
    "gemma-3-270m": Shape(18, 640, 2048, 4, 1, 256, 262144, True),
    "gemma-3-1b": Shape(26, 1152, 6912, 4, 1, 256, 262144, True),
    "gemma-3-4b": Shape(34, 2560, 10240, 8, 4, 256, 262208, True),
    "phi-3-mini": Shape(32, 3072, 8192, 32, 32, 96, 32064, False),
    "phi-3.5-mini": Shape(32, 3072, 8192, 32, 32, 96, 32064, False),
    "phi-4-mini": Shape(32, 3072, 8192, 24, 8, 128, 200064, True),
    "phi-4": Shape(40, 5120, 17920, 40, 10, 128, 100352, False),
    "llama-2-13b": Shape(40, 5120, 13824, 40, 40, 128, 32000, False),
    "qwen3guard-gen-0.6b": Shape(28, 1024, 3072, 16, 8, 128, 151936, True),
    "llama-guard-3-8b": Shape(32, 4096, 14336, 32, 8, 128, 128256, False),
    # ModernBERT, base and large: encoders
    "garak-refusal-detector": Shape(22, 768, 1152, 12, 12, 64, 50368, True),
    "minos": Shape(28, 1024, 2624, 16, 16, 64, 50368, True),
}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([mb])(?![a-z])")


def given(values: dict) -> Shape:
    """As `model.shape` of the configuration has it."""
    heads = values["heads"]
    rest = {"kv_heads": heads, "head_dim": values["hidden"] // heads, "tied": False}
    return Shape(**(rest | values), origin="model.shape of the configuration")


def tiny(values: dict) -> Shape:
    """Of the random model, as its rule makes it."""
    d, heads = values["hidden"], values["heads"]
    wide, kv_heads = values.get("intermediate") or 2 * d, values.get("kv_heads") or max(1, heads // 2)
    return Shape(values["layers"], d, wide, heads, kv_heads, d // heads, values["vocabulary"], False, "model.tiny")


def fetched(folder: Path) -> Shape | None:
    """Of a model folder that is there."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        heads = config["num_attention_heads"]
        return Shape(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["intermediate_size"],
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or config["hidden_size"] // heads,
            config["vocab_size"],
            bool(config.get("tie_word_embeddings")),
            f"{folder}/config.json",
        )
    except (OSError, KeyError, json.JSONDecodeError):
        return None


def named(*names: str) -> Shape | None:
    """Of a model that is known by name, or else the known one of about the size that its name tells, made to that
    size."""
    text = " ".join(names).lower().replace("_", "-")
    matches = [name for name in KNOWN if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![0-9])", text)]
    if matches:
        best = max(matches, key=len)
        return replace(KNOWN[best], origin=f"known by its name, {best}")
    if sizes := SIZE.findall(text):
        number, unit = sizes[0]
        wanted = float(number) * (1e9 if unit == "b" else 1e6)
        near = min(KNOWN.values(), key=lambda shape: abs(shape.parameters - wanted))
        layers = max(1, round(near.layers * wanted / near.parameters))
        return replace(
            near, layers=layers, origin=f"guessed from {number}{unit.upper()} in its name; model.shape says it exactly"
        )
    return None


def shape_of(model: dict, source: dict | None = None, folder: Path | None = None) -> Shape:
    """Shape of `model` or of an entry of `aligned.models`, with the source it comes from and the folder it is made
    into.

    In this order: its `shape`, the tests' model, the fetched model, a known name, a size in the name, and at last 7B.
    """
    if model.get("shape"):
        return given(model["shape"])
    if model.get("tiny"):
        return tiny(model["tiny"])
    names = [
        str(value)
        for entry in (model, source or {})
        for key in ("name", "repo", "path", "url")
        if (value := entry.get(key))
    ]
    shape = fetched(folder) if folder is not None else None
    shape = shape or named(*names)
    return shape or replace(KNOWN["mistral-7b"], origin="not known, taken for 7B; model.shape says it exactly")
