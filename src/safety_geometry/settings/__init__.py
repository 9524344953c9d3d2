"""The settings of a study, typed: what may stand in a configuration, and what each key means.

In: a mapping as YAML gives it. Out: the same mapping as models (`study.StudySettings`), their JSON schema, and the reference page of keys
(`page`). Knows no files, no Snakemake and nothing of what the settings do; rules across sections are the pipeline's.
"""
