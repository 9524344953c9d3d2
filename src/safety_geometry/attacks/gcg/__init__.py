"""Greedy coordinate gradient (arXiv 2307.15043): many suffixes in step, exact losses, keep-best, resumable."""
