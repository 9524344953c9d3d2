"""Harmfulness and refusal in activation space: caches, candidate directions and their scores, carriers, coupling,
companions.

In: a `models.Runner` and rendered prompts, or the caches made of them. Out: carriers with their sites, coupling terms,
nulls and ceilings. Knows nothing of answers or their judges.
"""
