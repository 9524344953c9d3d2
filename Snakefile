"""Where `snakemake` looks first. The workflow itself is workflow/Snakefile, which others import as a module."""


include: "workflow/Snakefile"


make_by_default(workflow, "all")
