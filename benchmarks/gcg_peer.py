"""nanoGCG 0.3.0 behind a line protocol, in its own environment: started by benchmarks/gcg_child.py, one JSON object a line.

`score` times its scoring of given candidates and the whole step around it, `run` a whole attack.
"""

import json
import logging
import sys
import time
from pathlib import Path

import torch
from nanogcg import gcg as nano
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def load(folder: Path, dtype: str, device: str):
    """The folder was written by a newer transformers, whose rotary base and tokenizer class have other names."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = values.pop("rope_parameters", {})
    if values["model_type"] != "llama" or rope.get("rope_type", "default") != "default":
        raise SystemExit("the peer's side of this benchmark knows plain Llama models only")
    for key in ("dtype", "transformers_version", "architectures"):
        values.pop(key, None)
    config = LlamaConfig(**(values | {"rope_theta": rope.get("rope_theta", values.get("rope_theta", 10000.0))}))
    model = LlamaForCausalLM.from_pretrained(folder, config=config, torch_dtype=getattr(torch, dtype))
    names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token=names["eos_token"], clean_up_tokenization_spaces=False
    )
    # Without a BOS of its own: nanoGCG would cut that token out of the template, wherever it stands.
    tokenizer.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return model.to(device).eval().requires_grad_(False), tokenizer


class Peer:
    def __init__(self, options: dict):
        torch.set_num_threads(options["threads"])
        self.clock = time.process_time if options["clock"] == "cpu" else time.perf_counter
        self.model, self.tokenizer = load(Path(options["model"]), options["dtype"], options["device"])
        self.forbidden = torch.tensor(options["forbidden"], device=options["device"])

    def now(self) -> float:
        """The clock, once the device has done what it was told."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock()

    def engine(self, steps: int, width: int, top_k: int, init: str, seed: int, batch_size: int | None) -> nano.GCG:
        config = nano.GCGConfig(
            num_steps=steps, search_width=width, topk=top_k, optim_str_init=init, seed=seed, batch_size=batch_size
        )
        engine = nano.GCG(self.model, self.tokenizer, config)
        engine.not_allowed_ids = self.forbidden
        return engine

    def run(self, request: str, target: str, **settings) -> dict:
        engine = self.engine(**settings)
        started = self.now()
        result = engine.run(request, target)
        return {
            "seconds": self.now() - started, "losses": [float(x) for x in result.losses], "text": result.best_string,
        }  # fmt: skip

    def score(self, request: str, target: str, candidates: list, **settings) -> dict:
        engine = self.engine(steps=1, width=len(candidates), seed=0, **settings)
        found: dict = {}
        gradient, losses = engine.compute_token_gradient, engine._compute_candidates_loss_original

        def timed_gradient(optim_ids):
            found["step"] = self.now()
            return gradient(optim_ids)

        def timed_losses(search_batch_size, input_embeds):
            started = self.now()
            out = losses(search_batch_size, input_embeds)
            if len(input_embeds) == len(candidates):
                found["seconds"], found["losses"] = self.now() - started, out.tolist()
            return out

        engine.compute_token_gradient, engine._compute_candidates_loss_original = timed_gradient, timed_losses
        sample, rows = nano.sample_ids_from_grad, torch.tensor(candidates, device=self.model.device)
        # Its own sampling and filter run and are timed with the step; then the given rows take their place.
        keep = nano.filter_ids
        nano.sample_ids_from_grad = lambda *args, **options: (sample(*args, **options), rows)[1]
        nano.filter_ids = lambda *args: (keep(*args), rows)[1]
        try:
            engine.run(request, target)
        finally:
            nano.sample_ids_from_grad, nano.filter_ids = sample, keep
        found["step"] = self.now() - found["step"]
        return found


def main() -> None:
    nano.logger.setLevel(logging.ERROR)
    nano.tqdm = lambda x: x
    peer = Peer(json.loads(sys.stdin.readline()))
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = getattr(peer, call.pop("call"))(**call)
        except Exception as error:  # a run that fails must not cost the others
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
