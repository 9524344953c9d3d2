"""Tables as files: what is read is what was written, typed by the specification, and nothing else passes."""

import pandas as pd
import pytest

from safety_geometry.artefacts.tables.files import TableError, check_table, read_table, write_table
from safety_geometry.artefacts.tables.registry import TABLES
from safety_geometry.artefacts.tables.specification import Table, flag, number, share, text, whole

SMALL = Table(
    "small",
    "A table.",
    (
        text("word", "text", ("none", "12", "a b")),
        whole("n", "count", 0),
        whole("k", "count or nothing", missing=True),
        share("p", "share", missing=True),
        number("x", "number"),
        flag("good", "flag", missing=True),
        text("note", "text or nothing", missing=True),
    ),
    key=("word",),
)


def frame(**columns) -> pd.DataFrame:
    """Three rows that fit, with some columns changed."""
    return pd.DataFrame(
        {
            "word": ["none", "12", "a b"], "n": [1, 2, 3], "k": pd.array([2**60 + 1, None, 3], dtype="Int64"),
            "p": [0.5, None, 1.0], "x": [1 / 3, 1e-9, 123456789.0], "good": [True, None, False], "note": [None, "x", None],
        }
        | columns
    )  # fmt: skip


def test_a_table_goes_through_a_file(tmp_path):
    path = tmp_path / "any.csv"
    write_table(frame(), path, SMALL)
    assert path.read_bytes() == (
        b"word,n,k,p,x,good,note\nnone,1,1152921504606846977,0.5,0.333333,True,\n12,2,,,1e-09,,x\na b,3,3,1,1.23457e+08,False,\n"
    )
    read = read_table(path, SMALL)
    assert read["word"].tolist() == ["none", "12", "a b"] and read["n"].dtype == "int64"
    assert read["k"].dtype == "Int64" and read["k"].tolist() == [2**60 + 1, pd.NA, 3]
    assert read["note"].isna().tolist() == [True, False, True] and read["p"].dtype == "float64"
    write_table(read, tmp_path / "again.csv", SMALL)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    write_table(frame().iloc[:0], tmp_path / "any.csv", SMALL)
    assert list(read_table(tmp_path / "any.csv", SMALL)) == SMALL.names


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"word": ["none", "none", "12"]}, "rows are not unique in"),
        ({"word": ["none", "12", "other"]}, "small.word: 'other' is not a valid string"),
        ({"word": ["none", "12", None]}, "small.word: 1 empty cells in a column that has to be full"),
        ({"n": [1, 2, -1]}, "small.n: .* is not a valid integer"),
        ({"n": [1, 2, 0.5]}, "small.n: .*0.5.* is not a valid integer"),
        ({"p": [0.5, 1.1, None]}, "small.p: .*1.1.* is not a valid number"),
        ({"good": [True, "no", None]}, "small.good: 'no' is not a valid boolean"),
        ({"more": [1, 2, 3]}, r"columns differ: missing \[\], unexpected \['more'\]"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_written(columns, message, tmp_path):
    with pytest.raises(TableError, match=message):
        check_table(frame(**columns), SMALL)
    with pytest.raises(TableError, match=message):
        write_table(frame(**columns), tmp_path / "any.csv", SMALL)
    assert not list(tmp_path.iterdir())


def test_another_order_of_columns_is_refused():
    with pytest.raises(TableError, match="or the order"):
        check_table(frame()[list(reversed(SMALL.names))], SMALL)


def test_rounding_may_step_over_a_bound():
    check_table(frame(p=[1 + 1e-7, -1e-7, None]), SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("word,n\nnone,1\n", "columns .* are missing; run the rule that makes it"),
        ("", "not a table"),
        ("word,n,k,p,x,good,note\nnone,1,1,7,1,True,\n", "small.p: .* is not a valid number .*; run the rule"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(content, message, tmp_path):
    path = tmp_path / "any.csv"
    path.write_text(content)
    with pytest.raises(TableError, match=rf"any\.csv: .*{message}|any\.csv: {message}"):
        read_table(path, SMALL)


def test_the_name_of_a_file_says_which_table_it_is(tmp_path):
    with pytest.raises(TableError, match="there is no table 'step4'"):
        read_table(tmp_path / "step4.csv")
    with pytest.raises(TableError, match="not a table"):
        read_table(tmp_path / "leakage.csv")
    assert TABLES["cells"].digits == TABLES["readout"].digits == 9
    assert {table.digits for table in TABLES.values()} == {6, 9}
