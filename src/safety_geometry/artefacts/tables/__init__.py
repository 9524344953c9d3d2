"""The specification of every table: its columns, what they mean, and what may stand in them.

One module for each group of tables holds their specifications as data (`behaviour`, `geometry`, `causal`, …; `working`:
tables within a run), in the words of `specification` and `families`. `registry` knows all by name; `files` reads, checks
and writes them; `document` puts them in words. Nothing else of the library is imported here.
"""
