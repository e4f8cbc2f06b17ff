"""What has been measured so far, one JSON object a line, so that a stopped run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sccodec.errors import SENSELESS_JSON, BadRequest, Damaged

NAME = "journal.jsonl"
REPORTS = ("points.csv", "report.json", "report.html", "layers.json", "bench.json", "bench.html")


class Journal:
    """Facts by key (a tuple of strings and numbers), kept in a file of `folder`.

    `add` writes at once: what is measured is never lost. Later lines add to earlier ones of
    the same key. A last line that a stop cut short is dropped; any other bad line is Damaged.
    Raises BadRequest for a folder with reports that no journal here has led to.
    """

    def __init__(self, folder: Path):
        if folder.exists() and not folder.is_dir():
            raise BadRequest(f"{folder} is a file, not a folder for a report")
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._facts: dict[tuple, dict] = {}
        if self.path.exists():
            self._read()
            return
        for report in (folder / name for name in REPORTS):
            if report.exists():
                raise BadRequest(
                    f"{report} exists, and no measurements are beside it",
                    hint="name another folder, since a report of that name would be written",
                )

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self._facts.setdefault(tuple(row["key"]), {}).update(row["facts"])
            except SENSELESS_JSON as error:
                raise Damaged(
                    f"{self.path}: line {number} is not a measurement: {error!r}",
                    hint="take the line out, or name another folder",
                ) from None
        if whole != data:
            os.truncate(self.path, len(whole))

    def add(self, key: tuple, **facts) -> None:
        line = json.dumps({"key": key, "facts": facts}, allow_nan=False)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._facts.setdefault(key, {}).update(facts)

    def facts(self, key: tuple) -> dict:
        """What is known of a key; empty if nothing is."""
        return self._facts.get(key, {})

    @property
    def keys(self) -> list[tuple]:
        return list(self._facts)
