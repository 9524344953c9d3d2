"""From the study's tables to verdicts on the papers' claims, each by a rule that was fixed beforehand.

In: tables. Out: tables. Knows no model and no file.
"""
