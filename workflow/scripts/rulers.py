"""How much each select prompt looks like a harmful one by its length, in tokens of --tokenizer, and by its words.

Fitted on the fit prompts. The table holds numbers only, harmful prompts first, in the order of their role.
"""

import pandas as pd
from _job import Job, explained

from safety_geometry.artefacts.prompts import read_role
from safety_geometry.geometry.rulers import Classes, length_scores, words_scores
from safety_geometry.models.configuration import ModelError
from safety_geometry.models.tokenizer import load_tokenizer


def main() -> None:
    job = Job(__doc__, ["tokenizer", "fit_harmful", "fit_benign", "select_harmful", "select_benign"], ["rulers"])
    with explained(ModelError, of=job.tokenizer):
        tokenizer = load_tokenizer(job.tokenizer)
    fit, select = (
        Classes(
            *([row["prompt"] for row in read_role(getattr(job, f"{kind}_{label}"))] for label in ("harmful", "benign"))
        )
        for kind in ("fit", "select")
    )
    by_length = length_scores(fit, select, lambda text: len(tokenizer(text, add_special_tokens=False).input_ids))
    labels = ["harmful"] * len(select.harmful) + ["benign"] * len(select.benign)
    table = pd.DataFrame({"label": labels, "length": by_length, "words": words_scores(fit, select)})
    job.write_table(table, job.rulers)


if __name__ == "__main__":
    main()
