"""What pip is told: constriction only where it has wheels, since it has no source package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
NEEDED = {Requirement(text).name: Requirement(text) for text in PROJECT["dependencies"]}


@pytest.mark.parametrize(
    ("system", "machine", "asked"),
    [
        ("linux", "x86_64", True),
        ("linux", "aarch64", False),
        ("linux", "armv7l", False),
        ("linux", "riscv64", False),
        ("darwin", "x86_64", True),
        ("darwin", "arm64", True),
        ("win32", "AMD64", True),
        ("win32", "ARM64", False),
    ],
)
def test_constriction_is_asked_for_where_it_has_wheels(system, machine, asked):
    marker = NEEDED["constriction"].marker
    assert marker.evaluate({"sys_platform": system, "platform_machine": machine}) == asked


def test_types_are_told():
    root = Path(__file__).parents[1]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    assert (root / "sccodec" / "py.typed").is_file() and "py.typed" in data["sccodec"]


def test_everything_else_is_needed_everywhere():
    assert len(NEEDED) > 3
    assert [name for name, needed in NEEDED.items() if needed.marker] == ["constriction"]
