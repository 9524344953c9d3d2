"""What scores a completion: rules, trained judges, judges that are models, and the behaviour of a checkpoint from their
verdicts.

In: requests and answers as text. Out: refusal classes, attack success, usefulness, quality, utility; rates with
intervals. Knows no model that answered and no attack.
"""
