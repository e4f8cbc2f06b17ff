"""Runs `sccodec` as a shell would, and checks on every run how it speaks."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from click.testing import CliRunner
from PIL import Image

import sccodec
from sccodec.cli import cli

ERROR = re.compile(r"sccodec: error: (?![A-Z][a-z])\S.*[^.]")
HINT = re.compile(r"sccodec: hint: \S.*[^.]")


class Result(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("sccodec: error: ")]

    @property
    def hints(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("sccodec: hint: ")]

    def rows(self) -> list[dict]:
        """The JSON objects on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(*arguments: object, stdin: bytes = b"") -> Result:
    """One command in this process."""
    done = CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return checked(Result(done.exit_code, done.stdout_bytes, done.stderr))


def checked(result: Result) -> Result:
    """The result, if its errors are worded as all errors are, and go with the exit code."""
    assert "Traceback" not in result.err
    assert all(ERROR.fullmatch(line) for line in result.errors), result.err
    assert all(HINT.fullmatch(line) for line in result.hints), result.err
    told = ("sccodec: error: ", "sccodec: damaged: ", "sccodec: interrupted\n", "Usage: ")
    assert any(words in result.err for words in told) == (result.code != 0), result
    return result


def listing(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden files too."""
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def pixels(source: Path | bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(source) if isinstance(source, bytes) else source))


def flip(data: bytes, layer: int, tile: int) -> bytes:
    """The file with one bit of one payload flipped."""
    reader = sccodec.open(data).reader
    (place,) = (place for place in reader.ranges([layer]) if place.tile == tile)
    at = place.offset + place.length // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
