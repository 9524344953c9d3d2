"""What a study is told, and how it names things: typed settings, the reference page of their keys, the identity of a
checkpoint.

In: a mapping as YAML gives it, or plain values. Out: checked records, a JSON schema, a page. Knows nothing of models,
files, results or Snakemake, and imports nothing of this library; rules across sections are the pipeline's.
"""
