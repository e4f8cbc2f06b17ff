"""Tables in Markdown, and the places of a page that figures are written into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sccodec.errors import BadRequest


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def put(page: Path, text: str, name: str = "") -> None:
    """Replaces what stands between the marks <!-- figures: name --> and <!-- end of figures -->.

    Raises BadRequest, and leaves the page alone, unless it has just one such place.
    """
    mark = f"<!-- figures: {name} -->" if name else "<!-- figures -->"
    between = rf"({re.escape(mark)}\n).*?(<!-- end of figures -->)"
    old = page.read_text()
    new, count = re.subn(between, lambda m: f"{m[1]}{text}\n{m[2]}", old, flags=re.DOTALL)
    if count != 1:
        raise BadRequest(f"{page} has {count} places {mark}")
    page.write_text(new)
