"""Files that cross from one rule to another: their records, how they are written, how they are read and checked.

In: paths and plain arrays or rows. Out: checked records; an error names the file. Knows no model and no configuration.
"""
