"""What a study is told, and how it names things: typed settings, the identity of a checkpoint and of a place in it.

In: plain values. Out: checked records. Knows nothing of models, files or results, and imports nothing of this library.
"""
