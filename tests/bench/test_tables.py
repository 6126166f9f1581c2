"""Tables of text: how cells are filled from a row, and what a row lacks."""

from bench.tables import table, table_of


def test_columns_are_aligned() -> None:
    assert table("title", ["a", "b"], [["wide", "1"], ["x", "10.5"]], left=1).splitlines() == [
        "title",
        "a        b",
        "----  ----",
        "wide     1",
        "x     10.5",
    ]
    assert table("title", ["a"], [], left=1) == ""


def test_cells_are_filled_from_a_row_and_what_it_lacks_is_a_dash() -> None:
    columns = [
        ("shape", "{shape!x}"),
        ("us", "{us[fused]:.1f}"),
        ("share", "{share!c:.0f}%"),
        ("paths", "{paths!u} {paths!p}"),
        ("counts", "{n!k:.1f} {n!m:.3f} {name!r}"),
    ]
    whole = {"shape": [2, 3], "us": {"fused": 1.25}, "share": 0.5, "paths": ["a", "a"]}
    lacking = {"us": {"fused": None}, "share": None, "n": None, "name": 1}
    text = table_of("title", columns, [{**whole, "n": 1500, "name": "b"}, lacking], left=1)
    assert [line.split() for line in text.splitlines()[3:]] == [
        ["2x3", "1.2", "50%", "a", "a+a", "1.5", "0.002", "'b'"],
        ["-", "-", "-%", "-", "-", "-", "-", "1"],
    ]
    assert table_of("title", columns, [], left=1) == ""
    (row,) = table_of("title", columns, [{**whole, "us": None}], left=1).splitlines()[3:]
    assert row.split()[1] == "-"
