"""Refusal against compliance: the other contrast of the refusal carrier (arXiv 2606.16349, section 3).

There the carrier is made from "refusal-versus-compliance contrasts", in arXiv 2604.27019 from harmful and safe prompts.
On which prompts the former are made is not said. Here all fit prompts are labelled, harmful and benign alike, as for
the centroids of refused and accepted prompts of Zhao et al. (2025); a checkpoint that refuses all that is harmful and
nothing else has one contrast under both names.
"""

from torch import Tensor


def large_enough(refused: Tensor, least: int) -> bool:
    """Whether there are `least` refused prompts and as many others; `refused` [n] bool."""
    count = int(refused.sum())
    return min(count, len(refused) - count) >= least
