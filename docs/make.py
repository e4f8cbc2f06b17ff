"""Writes what the pages repeat of the code, between marks: help texts, sentences of modules.

    python docs/make.py [--check]

    <!-- help: NAME -->   in cli.md      what `sccodec NAME --help` prints
    <!-- rooms -->        in README.md   the rooms of the package, each with its first line
    <!-- modules -->      in path.md     the same with their modules
    <!-- end -->

Everything else in these files is by hand. A test runs this with --check.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import click

from sccodec.cli import cli

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sccodec"
WIDTH = 92

# In the order in which a pixel meets them, and in each the order in which to read.
ROOMS = {
    "errors.py": "",
    "spans.py": "",
    "threads.py": "",
    "extras.py": "",
    "media": "image picture reading modes deep metadata writing",
    "transform": "graphs",
    "latents": "prior quantize rate",
    "entropy": "fixed tables coder ans",
    "container": "layout record rules writer reader extract describe",
    "profiles": "registry",
    "codecs": "image tiles canvas reanalysis descent finishing",
    "api.py": "",
    "evaluate": "adapters pictures quality curves journal machine rate match layers speed once "
    "comparison plots page report speed_report "
    "split efficientnet darknet classification detection anchors",
    "plugins": "",
    "cli": "border names batch encode decode extract join info verify doctor models demo "
    "eval bench train export",
    "train": "wavelet networks prior model data loss loop widen onnx_graphs export",
}


def first_line(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]


def rooms() -> list[Path]:
    """Files and folders of the package, those that ROOMS does not know last."""
    folders = {path.parent for path in PACKAGE.glob("*/__init__.py")}
    doors = {PACKAGE / f"{path.stem}.py" for path in PACKAGE.glob("plugins/*.py")}
    files = set(PACKAGE.glob("[!_]*.py")) - doors
    order = [PACKAGE / name for name in ROOMS]
    found = sorted(folders | files)
    return [p for p in order if p in found] + [p for p in found if p not in order]


def modules(room: Path) -> list[Path]:
    """The modules of a room, those that ROOMS does not know last."""
    order = [room / f"{name}.py" for name in ROOMS.get(room.name, "").split()]
    found = sorted(room.glob("[!_]*.py"))
    return [p for p in order if p in found] + [p for p in found if p not in order]


def title(room: Path) -> tuple[str, str]:
    if room.is_dir():
        return f"{room.name}/", first_line(room / "__init__.py")
    return room.name, first_line(room)


def rooms_table() -> str:
    rows = ["| folder in `sccodec/` | |", "|---|---|"]
    for name, words in map(title, rooms()):
        rows.append(f"| [`{name}`](sccodec/{name}) | {words} |")
    return "\n".join(rows) + "\n"


def modules_tables() -> str:
    parts = []
    for room in rooms():
        name, words = title(room)
        part = f"### {name}\n\n{words}\n"
        if room.is_dir() and (found := modules(room)):
            part += "\n| module | |\n|---|---|\n"
            part += "".join(f"| `{path.name}` | {first_line(path)} |\n" for path in found)
        parts.append(part)
    return "\n" + "\n".join(parts) + "\n"


def help_of(name: str) -> str:
    """What `sccodec NAME --help` prints in a terminal of WIDTH columns; `eval rd` is a name."""
    context = click.Context(cli, info_name="sccodec", terminal_width=WIDTH, **cli.context_settings)
    for word in name.removeprefix("sccodec").split():
        command = context.command.commands[word]
        context = click.Context(command, info_name=word, parent=context)
    text = context.command.get_help(context)
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines}\n```\n"


def made(page: str) -> str:
    """The page as it should be today."""

    def block(match: re.Match) -> str:
        kind, _, name = match[1].partition(": ")
        text = {"rooms": rooms_table, "modules": modules_tables}.get(kind) or (
            lambda: help_of(name)
        )
        return f"<!-- {match[1]} -->\n{text()}<!-- end -->"

    marks = r"<!-- (help: [\w ]+|rooms|modules) -->\n.*?<!-- end -->"
    return re.sub(marks, block, page, flags=re.DOTALL)


def main() -> None:
    stale = []
    for path in (ROOT / "README.md", ROOT / "docs" / "path.md", ROOT / "docs" / "cli.md"):
        old = path.read_text()
        if made(old) != old:
            stale.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(made(old))
    if stale and "--check" in sys.argv[1:]:
        sys.exit(f"out of date: {', '.join(stale)}; run python docs/make.py")


if __name__ == "__main__":
    main()
