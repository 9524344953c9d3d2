"""What a study is told, as typed records: identities of checkpoints and attacks, each with one text form and one parser.

In: plain text and values. Out: frozen records. Knows no file, no model and no table.
"""
