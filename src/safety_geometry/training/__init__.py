"""SFT and R2D2 as one loop over optimiser steps, with the pool of attacked requests, its losses and the reference
anchor.

In: a model with LoRA layers, clean rows, a pool. Out: checkpoints, a state to go on from, a log. Knows nothing of
carriers.
"""
