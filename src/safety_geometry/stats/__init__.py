"""Intervals, exact tests, permutations and rank correlations on plain arrays. Knows nothing of what the numbers
mean."""
