"""Harmfulness-refusal coupling of a language model under (adversarial) fine-tuning.

Pure functions on tensors, arrays and data frames: no workflow, no paths, no configuration file.
Layers are zero-based and mean the residual stream at the *input* of a block; positions count from the end of
the rendered prompt (-1 is the last token).
"""
