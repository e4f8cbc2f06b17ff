"""The documentation is generated or checked: commands, help, examples, links, sentences."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from PIL import Image

from sccodec import errors
from sccodec.cli import cli
from sccodec.container.rules import DEFAULT_LIMITS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sccodec"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
assert len(PAGES) >= 6, "pages are missing from this checkout"

NOT_RUN = re.compile(r"<!-- not run: (.+) -->\n\Z")
NEEDS = re.compile(r"<!-- needs: (.+) -->\n\Z")


class Example(NamedTuple):
    """A fenced block of a page: its language, its text, why it is not run, and what it needs."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None
    needs: tuple[str, ...]  # packages without which it is left out

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def examples(page: Path) -> list[Example]:
    text, found = page.read_text(), []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        before = text[: match.start()]
        reason, packages = NOT_RUN.search(before), NEEDS.search(before)
        needs = tuple(packages[1].split()) if packages else ()
        line = before.count("\n") + 1
        found.append(Example(page, line, match[1], match[2], reason and reason[1], needs))
    return found


EXAMPLES = {page: examples(page) for page in PAGES}
RUNNABLE = {
    page: [e for e in found if e.language in ("sh", "python") and not e.not_run]
    for page, found in EXAMPLES.items()
}
UNRUN = {str(e): e.not_run for found in EXAMPLES.values() for e in found if e.not_run}


# -- examples ---------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path_factory, tmp_path, monkeypatch):
    """Runs a block in the folder that docs/cli.md promises, with the models that we ship."""
    photo = Image.open(PACKAGE / "demo" / "photo.png")
    photo.crop((100, 50, 420, 306)).save(tmp_path / "photo.png")
    (tmp_path / "pictures").mkdir()
    photo.crop((0, 0, 160, 128)).save(tmp_path / "pictures" / "a.png")
    photo.crop((200, 100, 344, 196)).save(tmp_path / "pictures" / "b.png")
    commands = tmp_path_factory.mktemp("bin")
    for name, words in (("sccodec", "-m sccodec"), ("python", "")):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    del environment["SCCODEC_MODELS"]

    def run(language: str, text: str) -> subprocess.CompletedProcess:
        words = {"sh": ["bash", "-eu", "-c", text], "python": [sys.executable, "-c", text]}
        return subprocess.run(
            words[language], cwd=tmp_path, env=environment, capture_output=True, timeout=120
        )

    return run


@pytest.mark.parametrize("page", [p for p in PAGES if RUNNABLE[p]], ids=lambda page: page.name)
def test_examples_run(page, shell):
    """The blocks of one page, in order, in one folder."""
    for example in RUNNABLE[page]:
        if not all(map(importlib.util.find_spec, example.needs)):
            continue
        result = shell(example.language, example.text)
        assert result.returncode == 0, f"{example}\n{result.stderr.decode()}"


def test_the_line_of_crontab_runs(shell):
    """What cron would hand to a shell, in folders that are there."""
    (line,) = (
        e.text for e in EXAMPLES[ROOT / "docs" / "batch.md"] if "crontab" in (e.not_run or "")
    )
    *schedule, command = line.strip().split(None, 5)
    assert len(schedule) == 5
    command = command.replace("/backup", "backup").replace("/var/log/", "")
    assert shell("sh", "sccodec encode pictures/*.png -o backup/").returncode == 0
    result = shell("sh", f"{command} && cat sccodec.log")
    assert result.returncode == 0, result.stderr.decode()
    assert sorted(result.stdout.split()) == [b"backup/a.scc:", b"backup/b.scc:", b"ok", b"ok"]


def test_enough_examples_run_and_the_others_say_why():
    assert sum(map(len, RUNNABLE.values())) >= 15
    assert len(UNRUN) <= 8, UNRUN
    for place, reason in UNRUN.items():
        assert reason in (
            "installs",
            "needs training data and hours",
            "needs a trained checkpoint",
            "is a line of crontab",
            "needs data and weights",
        ), place


def test_the_table_of_the_readme_is_what_demo_prints(shell):
    table = re.search(r"<!-- demo table -->\n```text\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    rows = [line.split() for line in table[1].splitlines()[1:3]]
    result = shell("sh", "sccodec demo --json")
    assert result.returncode == 0, result.stderr.decode()
    if "…" in table[1]:
        pytest.skip("the table waits for the trained model")
    for (name, size, bpp, psnr), row in zip(rows, json.loads(result.stdout), strict=True):
        assert name == row["layers"]
        # Analysis and synthesis are floats, so another machine may differ a little.
        assert float(size) == pytest.approx(row["bytes"], rel=0.005)
        assert float(bpp) == pytest.approx(row["bpp"], rel=0.005)
        assert float(psnr) == pytest.approx(row["psnr"], abs=0.05)


def test_bd_rates_of_the_readme_are_those_of_the_evaluation():
    page, text = (ROOT / "docs/evaluation.md").read_text(), PAGES[0].read_text()

    def rates(title: str) -> dict[str, list[float | None]]:
        """The table of that title: codec -> what it takes against others, last against ours."""
        _, _, rest = page.partition(f"| {title}, RGB PSNR, dB |")
        rows = (row.strip("| ").split(" | ") for row in rest.partition("\n\n")[0].splitlines()[2:])
        return {
            name: [float(value.split()[0]) if "%" in value else None for value in values]
            for name, *values in rows
        }

    told = [int(rate) for rate in re.findall(r"(\d+) %", text.partition("## How good is it")[2])]
    jpeg, webp, avif, _ = rates("mean of each picture's BD-rate")["scc"]
    curves = rates("BD-rate of mean curves")
    ours = [-jpeg, -webp, -avif, -curves["VTM"][-1], curves["mbt2018-mean"][-1]]
    assert told[:5] == pytest.approx(ours, abs=0.51)


# -- commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", cli.commands)
def test_every_command_has_a_heading_help_and_an_example(command):
    page = ROOT / "docs" / "cli.md"
    _, _, section = page.read_text().partition(f"\n## {command}\n")
    section = section.partition("\n## ")[0]
    assert f"<!-- help: {command} -->" in section
    shown = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert any(f"sccodec {command} " in f"{text} ".replace("\n", " ") for text in shown)


def test_what_the_pages_repeat_of_the_code_is_current():
    """Help texts, and the sentences of rooms and modules."""
    spec = importlib.util.spec_from_file_location("make", ROOT / "docs" / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    marks = 0
    for page in PAGES:
        text = page.read_text()
        assert make.made(text) == text, f"{page.name}: run python docs/make.py"
        marks += text.count("<!-- end -->")
        for word in ("Usage:", "PIXELS: "):  # so the comparison can fail
            assert make.made(text.replace(word, "")) == text
    assert marks == len(list(every_command())) + 3


def every_command() -> Iterator[click.Command]:
    """Commands, and those below them."""
    for command in cli.commands.values():
        yield command
        yield from getattr(command, "commands", {}).values()


def test_options_in_text_exist():
    known = {"--help", "--version", "--check", "--no-deps"} | {
        option
        for command in every_command()
        for p in command.params
        for option in (*p.opts, *p.secondary_opts)
    }
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'add_argument\("(--[a-z-]+)"', script.read_text()))
    for page in PAGES:
        told = re.findall(r"`[^`\n]*?(--[a-z][a-z-]+)", page.read_text())
        assert set(told) <= known, page.name


def test_exit_codes_in_text_are_those_of_the_errors():
    codes = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.CodecError)
    }
    rows = re.findall(r"^\| (\d) \|", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE)
    assert {int(row) for row in rows} == codes | {0}


def test_every_promise_of_the_threat_model_names_tests_that_exist():
    page = (ROOT / "docs" / "threat-model.md").read_text()
    rows = re.findall(r"^\|.*\|.*\| (.*) \|$", page.partition("\n## Limits")[0], re.MULTILINE)[2:]
    assert len(rows) >= 12
    assert all("`test_" in row for row in rows)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", page)) <= there


def test_limits_in_the_specification_are_the_defaults():
    page = (ROOT / "formats" / "container.md").read_text()
    for name, power in (("pixels", 28), ("tiles of all layers", 20)):
        assert f"| {name} | 2^{power} |" in page
    assert "| pixels of a tile | 2^24 |" in page
    assert DEFAULT_LIMITS.max_tile == 2**24
    for field in dataclasses.fields(DEFAULT_LIMITS):
        assert f"SCCODEC_{field.name.upper()}" in page
    assert DEFAULT_LIMITS.max_pixels == 2**28
    assert DEFAULT_LIMITS.max_tiles == 2**20
    assert f"| width, height | {DEFAULT_LIMITS.max_dimension} |" in page
    assert f"| layers | {DEFAULT_LIMITS.max_layers} |" in page


# -- links and sentences ----------------------------------------------------------------------


ALL_MARKDOWN = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part == "build" for part in path.relative_to(ROOT).parts)
]


@pytest.mark.parametrize("page", ALL_MARKDOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_key_of_a_recipe_is_explained():
    """Read from the source, since importing it would need PyTorch."""
    tree = ast.parse((PACKAGE / "train" / "loop.py").read_text())
    (recipe,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Recipe")
    keys = {node.target.id for node in recipe.body if isinstance(node, ast.AnnAssign)} | {"extends"}
    page = (ROOT / "docs" / "training.md").read_text()
    told = {
        name
        for row in re.findall(r"^\| (`.+?`) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert told == keys
