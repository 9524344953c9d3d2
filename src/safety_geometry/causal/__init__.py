"""Interventions with matched controls: which cells there are, what they do, what that changed.

In: carriers, activations, a `models.Runner`. Out: readouts and answers of cells, control-normalised effects. Knows no
judge: it takes their verdicts.
"""
