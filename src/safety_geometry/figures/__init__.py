"""One module a figure: tables in, a matplotlib figure out. Knows no model and no file."""
