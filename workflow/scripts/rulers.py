"""How well the length of the prompts, in tokens of --model, and their words separate the classes of the probe prompts.

Fitted on the fit prompts, scored on the select prompts. The table holds numbers only.
"""

from _job import Job, explained

from safety_geometry.artefacts.prompts import read_role
from safety_geometry.geometry.rulers import Classes, length_auroc, words_auroc
from safety_geometry.models.configuration import ModelError
from safety_geometry.models.tokenizer import load_tokenizer


def main() -> None:
    job = Job(__doc__, ["model", "fit_harmful", "fit_benign", "select_harmful", "select_benign"], ["rulers"])
    with explained(ModelError, of=job.model):
        tokenizer = load_tokenizer(job.model)
    fit, select = (
        Classes(
            *([row["prompt"] for row in read_role(getattr(job, f"{kind}_{label}"))] for label in ("harmful", "benign"))
        )
        for kind in ("fit", "select")
    )
    by_length = length_auroc(fit, select, lambda text: len(tokenizer(text, add_special_tokens=False).input_ids))
    scores = {"ruler_length_auroc": by_length, "ruler_words_auroc": words_auroc(fit, select)}
    counts = {"n_harmful": len(select.harmful), "n_benign": len(select.benign)}
    job.write_table([scores | counts], job.rulers)


if __name__ == "__main__":
    main()
