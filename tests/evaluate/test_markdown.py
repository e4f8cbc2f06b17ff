"""Tables and places of figures in a page."""

import pytest

from sccodec.errors import BadRequest
from sccodec.evaluate import markdown

PAGE = "a\n<!-- figures: one -->\nold\nolder\n<!-- end of figures -->\nb\n"


def test_a_table_has_a_line_for_each_row_below_heads_and_rule():
    assert markdown.table(["x", "y"], [["1", "2"]]) == "| x | y |\n| --- | --- |\n| 1 | 2 |"


def test_figures_replace_what_stands_between_their_marks_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE + PAGE.replace("one", "two"))
    markdown.put(page, r"new \1", "one")
    assert page.read_text() == PAGE.replace("old\nolder", r"new \1") + PAGE.replace("one", "two")


@pytest.mark.parametrize("text", ["none", PAGE + PAGE])
def test_a_page_without_just_one_such_place_is_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(BadRequest, match=r"page\.md has \d places <!-- figures: one -->"):
        markdown.put(page, "new", "one")
    assert page.read_text() == text
