"""The smoke study's tables have, byte for byte, values that are known to be good (golden.json)."""

import golden
import pytest


@pytest.mark.slow
def test_the_tables_have_known_bytes(finished):
    sets = golden.known().get(golden.HERE)
    if not sets:
        pytest.skip(f"no set for {golden.HERE}: add one of a run that you trust (tests/workflow/golden.py)")
    differing, _ = golden.nearest(golden.digests(finished.results / "tables"), sets)
    assert not differing, f"not as in any of {len(sets)} valid sets; if that is meant, see tests/workflow/golden.py"


def test_the_nearest_set_is_the_one_with_most_in_common():
    found = {"a": "1", "b": "2"}
    assert golden.nearest(found, [{"a": "0", "b": "0"}, {"a": "1", "c": "3", "b": "2"}])[0] == ["c"]
    assert golden.nearest(found, [{"a": "0"}, found]) == ([], found)


def test_a_set_is_added_once(tmp_path, monkeypatch, capsys):
    tables = tmp_path / "tables"
    tables.mkdir()
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden.json")
    monkeypatch.setattr("sys.argv", ["golden.py", str(tables)])
    with pytest.raises(SystemExit, match="not of a finished smoke study"):
        golden.main()
    (tables / "claims.csv").write_text("id\n")
    golden.main()
    golden.main()
    assert golden.known() == {golden.HERE: [golden.digests(tables)]}
    (tables / "claims.csv").write_text("id\nx\n")
    golden.main()
    assert len(golden.known()[golden.HERE]) == 2
    monkeypatch.setattr("sys.argv", ["golden.py", str(tables), "--anew"])
    golden.main()
    assert golden.known()[golden.HERE] == [golden.digests(tables)]
