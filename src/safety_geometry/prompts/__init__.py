"""Requests: where they are fetched from, how files are read, who gets which, and that no role leaks into another.

In: packages, hub repositories, addresses and files. Out: checked rows, disjoint roles, affirmative targets. Knows no
model.
"""
