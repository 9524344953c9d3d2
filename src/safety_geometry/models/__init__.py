"""Language models as the study sees them: loaded, asked, read inside and edited.

In: model folders and adapters in the formats of transformers and peft. Out: a `Runner` (the only code that knows a
model family), rendered conversations, greedy answers, activations at any block, interventions. Knows nothing of
prompts' roles, regimes or studies.
"""
