"""nanoGCG in an environment of its own: made where it is missing, run as a child process (gcg_peer.py), started again where it died."""

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path

import torch

from safety_geometry.attacks.gcg.suffix import Suffix

PEER = ["nanogcg==0.3.0", "transformers==4.47.*", "torch==2.13.0", "numpy<3", "jinja2"]


class PeerError(Exception):
    """A call of nanoGCG failed, or its process ended."""


class Peer:
    """The child process with nanoGCG, started anew where it ended."""

    def __init__(self, options: argparse.Namespace, allowed: torch.Tensor, settings: dict):
        """`settings` are those of every call."""
        self.command = [environment(options.work), Path(__file__).with_name("gcg_peer.py")]
        self.hello = {
            "model": str(options.model), "dtype": options.dtype, "device": options.device, "threads": options.threads, "clock": options.clock,
            "forbidden": (~allowed).nonzero()[:, 0].tolist(),
        }  # fmt: skip
        self.settings = settings
        self.child: subprocess.Popen | None = None

    def call(self, name: str, case: Suffix, **settings) -> dict:
        """Raises PeerError."""
        if self.child is None or self.child.poll() is not None:
            self.child = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
            self._ask(self.hello)
        settings = self.settings | settings
        settings["batch_size"] = settings["batch_size"] or None
        return self._ask({"call": name, "request": case.request, "target": case.target, **settings})

    def _ask(self, message: dict) -> dict:
        try:
            print(json.dumps(message), file=self.child.stdin, flush=True)
            line = self.child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"nanoGCG's process ended with status {self.child.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer


def environment(work: Path) -> Path:
    """The Python of nanoGCG's environment, which is made where it is missing."""
    python = work / "nanogcg" / "bin" / "python"
    if not (work / "nanogcg" / ".done").exists():
        print(f"making nanoGCG's environment in {work / 'nanogcg'}", flush=True)
        venv.create(work / "nanogcg", with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True, stdout=sys.stderr)
        (work / "nanogcg" / ".done").touch()
    return python
