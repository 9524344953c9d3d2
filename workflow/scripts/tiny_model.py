"""A random Llama with a byte-level BPE tokenizer trained on the project's own prompts, for smoke study and rehearsals.

params: seed, vocabulary, hidden, layers, heads, system; maybe intermediate, kv_heads, context, deviation, dtype,
device.
"""

import json

from _job import Job

from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.models.tiny import write_tiny_model


def main() -> None:
    job = Job(__doc__, inputs=["texts*"], outputs=["folder"])
    shape = {name: value for name, value in job.params.items() if name != "system"}
    texts = [json.dumps(row) for path in job.texts for row in read_jsonl(path)] + ["system\nuser\nassistant\n"] * 50
    job.write(job.folder, write_tiny_model, texts, **shape)


if __name__ == "__main__":
    main()
