"""Attacks on a model that refuses, and how they carry over to other checkpoints.

In: a `models.Runner`, requests and their targets. Out: suffixes and templates with their losses, costs and transfer.
`gcg` and `autodan` hold the searches. Knows nothing of judges while it searches: an attack stops on its loss.
"""
