"""The table of months and weekdays is what its maker writes."""

import ast

import make_calendar_names

from llink.modeling_llink.calendar_names import MONTHS, WEEKDAYS


def test_the_table_is_what_its_maker_writes(tmp_path, monkeypatch):
    kept = make_calendar_names.TARGET.read_text("utf-8")
    monkeypatch.setattr(make_calendar_names, "TARGET", tmp_path / "calendar_names.py")
    make_calendar_names.main()
    assert (tmp_path / "calendar_names.py").read_text("utf-8") == kept
    assert ast.parse(kept)


def test_a_name_means_one_month_or_day():
    names = [name for group in (*MONTHS.values(), *WEEKDAYS.values()) for name in group.split("|")]
    assert len(names) == len(set(names)) > 500
    assert [*MONTHS][:3] == ["January", "February", "March"]
    assert [*WEEKDAYS][:2] == ["Sunday", "Monday"]
