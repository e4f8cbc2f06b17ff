"""A stopped run goes on: nothing that was measured is lost, and nothing false is believed."""

from __future__ import annotations

import pytest

from sccodec.errors import BadRequest, Damaged
from sccodec.evaluate.journal import NAME, Journal

KEY = ("picture", "jpeg", 50, "Pillow 1")


def test_facts_are_there_again(tmp_path):
    journal = Journal(tmp_path / "new" / "report")
    journal.add(KEY, bytes=10)
    journal.add(("other", "scc", 0.5, "x"), bytes=7)
    journal.add(KEY, psnr=30.5)
    again = Journal(journal.path.parent)
    assert again.facts(KEY) == journal.facts(KEY) == {"bytes": 10, "psnr": 30.5}
    assert again.facts(("picture", "jpeg", 51, "Pillow 1")) == {}
    assert len(again.keys) == 2


def test_a_line_that_was_cut_short_is_dropped(tmp_path):
    journal = Journal(tmp_path)
    journal.add(KEY, bytes=10)
    whole = journal.path.read_bytes()
    with open(journal.path, "ab") as file:
        file.write(b'{"key": ["picture", "jp')
    again = Journal(tmp_path)
    assert journal.path.read_bytes() == whole
    again.add(KEY, psnr=1.0)
    assert Journal(tmp_path).facts(KEY) == {"bytes": 10, "psnr": 1.0}


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"key": 3, "facts": {}}', '{"key": ["a"]}'])
def test_a_bad_line_is_named(tmp_path, line):
    Journal(tmp_path).add(KEY, bytes=10)
    with open(tmp_path / NAME, "a") as file:
        file.write(line + "\n")
    with pytest.raises(Damaged, match="line 2 is not a measurement"):
        Journal(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(BadRequest, match="is a file, not a folder"):
        Journal(tmp_path / "report")


def test_a_report_that_no_journal_led_to_is_not_replaced(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(BadRequest, match=r"report\.html exists"):
        Journal(tmp_path)
    (tmp_path / "journal.jsonl").write_text("")
    assert Journal(tmp_path).keys == []


def test_a_line_without_end_is_named(tmp_path):
    (tmp_path / "journal.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(Damaged, match="line 1 is not a measurement"):
        Journal(tmp_path)


def test_numbers_that_json_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Journal(tmp_path).add(KEY, psnr=float("inf"))
    assert Journal(tmp_path).facts(KEY) == {}
