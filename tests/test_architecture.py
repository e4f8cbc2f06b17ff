"""Imports point down the path only, and what needs no decoding loads nothing heavy."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import sccodec

ROOT = Path(sccodec.__file__).parent
VECTORS = Path(__file__).parents[1] / "formats" / "vectors"


class Room(NamedTuple):
    """Where a room stands, and what it may import from outside the standard library."""

    level: int  # imports come from lower levels and from the room itself
    anywhere: str = ""
    inside: str = ""  # only inside functions, or for type checkers
    light: bool = False  # outside functions it may import other light rooms only


ROOMS = {
    "errors": Room(0, light=True),
    "extras": Room(1, light=True),
    "spans": Room(0, light=True),
    "threads": Room(0, light=True),
    "container": Room(1, light=True),
    "media": Room(1, "numpy", "PIL imageio"),
    "entropy": Room(2, "numpy constriction"),
    "transform": Room(2, "numpy", "onnxruntime"),
    "latents": Room(3, "numpy"),
    "profiles": Room(4, "numpy"),
    "codecs": Room(6, "numpy"),
    "api": Room(7, "", "numpy PIL", light=True),
    "evaluate": Room(8, "numpy PIL", "scipy imagecodecs av ssimulacra2 torch pycocotools"),
    "plugins": Room(8, "numpy PIL imageio"),
    "train": Room(9, "numpy PIL torch onnx"),
    "cli": Room(10, "click", "numpy torch", light=True),
}
HEAVY = (
    *("numpy", "onnxruntime", "torch", "onnx", "constriction", "PIL", "imageio"),
    *("scipy", "imagecodecs", "av"),
)


MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
assert len(MODULES) > 40, "modules are missing from this checkout"


# Modules that stand in front of a room.
DOORS = {
    "sccodec": "api",
    "sccodec.__main__": "cli",
    "sccodec.pillow": "plugins",
    "sccodec.imageio": "plugins",
}


def room_of(module: str) -> str:
    """`sccodec.media.deep` -> media."""
    return DOORS.get(module) or module.split(".")[1]


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """(imported module, inside a function or for type checkers) of every import."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module, inside
        within = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside or within)

    return walk(ast.parse(source), False)


def findings(module: str, source: str) -> list[str]:
    """What is wrong with the imports of a module, as `room -> target`."""
    name = room_of(module)
    room, wrong = ROOMS[name], []
    for target, inside in imports(source):
        top = target.partition(".")[0]
        if top == "sccodec":
            other = room_of(target)
            upward = other != name and ROOMS[other].level >= room.level
            heavy = room.light and not inside and not ROOMS[other].light
            if upward or heavy:
                wrong.append(f"{name} -> {other}")
        elif top not in sys.stdlib_module_names:
            allowed = f"{room.anywhere} {room.inside if inside else ''}".split()
            if top not in allowed:
                wrong.append(f"{name} -> {top}")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    assert findings(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("sccodec.container.reader", "import numpy", ["container -> numpy"]),
        ("sccodec.container.reader", "def f():\n    import torch.nn", ["container -> torch"]),
        ("sccodec.container.reader", "from sccodec.codecs import image", ["container -> codecs"]),
        ("sccodec.container.reader", "from sccodec import open", ["container -> api"]),
        ("sccodec.media.image", "import sccodec.container.layout", ["media -> container"]),
        ("sccodec.media.image", "from PIL import Image", ["media -> PIL"]),
        ("sccodec.media.image", "def f():\n    from PIL import Image", []),
        ("sccodec.media.image", "if TYPE_CHECKING:\n    from PIL import Image", []),
        ("sccodec.latents.prior", "from sccodec.transform import graphs", []),
        ("sccodec.entropy.fixed", "from sccodec.transform import graphs", ["entropy -> transform"]),
        ("sccodec.codecs.image", "def f():\n    from sccodec import train", ["codecs -> train"]),
        ("sccodec.api", "from sccodec.codecs import image", ["api -> codecs"]),
        ("sccodec.api", "def f():\n    from sccodec.codecs import image", []),
        ("sccodec.cli.info", "import click, numpy", ["cli -> numpy"]),
        ("sccodec.cli.info", "from sccodec.media.image import read", ["cli -> media"]),
        ("sccodec.cli.info", "from sccodec import __version__", []),
    ],
)
def test_the_walk_finds_forbidden_imports(module, source, expected):
    assert findings(module, source) == expected


# -- light rooms ----------------------------------------------------------------------------

PROBE = """
import atexit, json, os, sys
heavy = {heavy!r}
atexit.register(lambda: os.write({fd}, json.dumps([m for m in heavy if m in sys.modules]).encode()))
{code}
"""


def loaded(code: str, *arguments: object) -> tuple[list[str], subprocess.CompletedProcess]:
    """The heavy packages that a fresh interpreter has loaded when it ends, and how it ended."""
    out, back = os.pipe()
    script = PROBE.format(heavy=HEAVY, fd=back, code=code)
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        pass_fds=[back],
        capture_output=True,
        timeout=60,
    )
    os.close(back)
    with os.fdopen(out) as pipe:
        return json.loads(pipe.read()), run


COMMAND = "from sccodec.cli import main; main()"


@pytest.mark.parametrize("name", ["sccodec", "sccodec.container", "sccodec.errors", "sccodec.cli"])
def test_import_loads_nothing_heavy(name):
    packages, run = loaded(f"import {name}")
    assert (packages, run.returncode) == ([], 0)


@pytest.fixture
def scc_file(tmp_path):
    """The .scc file of a vector; its payloads are dummies, which nothing here decodes."""
    _, _, data = (VECTORS / "ok_two_layers.vector").read_bytes().partition(b"\n\n")
    path = tmp_path / "two.scc"
    path.write_bytes(data)
    return path


def test_what_decodes_nothing_loads_nothing_heavy(scc_file):
    folder = scc_file.parent
    base, rest, again = folder / "base.scc", folder / "rest.scc", folder / "again.scc"
    for arguments in (
        ["--help"],
        ["--version"],
        ["encode", "--help"],
        ["info", scc_file],
        ["info", "--json", scc_file],
        ["extract", scc_file, "--layers", "1", "-o", base, "--rest", rest],
        ["join", base, rest, "-o", again],
        ["info", folder / "missing.scc"],
    ):
        packages, run = loaded(COMMAND, *arguments)
        assert packages == [], arguments
        assert run.returncode == (arguments[-1] == folder / "missing.scc"), run.stderr
    assert again.read_bytes() == scc_file.read_bytes()


def test_the_light_check_can_fail(tmp_path, tiny_model):
    """Decoding loads the runtime, and the same probe sees it; it still needs no PyTorch."""
    import numpy as np

    pixels = np.full((64, 64, 3), 99, np.uint8)
    (tmp_path / "gray.scc").write_bytes(sccodec.encode(pixels, profile=tiny_model.id))
    packages, run = loaded(COMMAND, "decode", tmp_path / "gray.scc")
    assert run.returncode == 0, run.stderr
    assert {"numpy", "onnxruntime"} <= set(packages)
    assert not {"torch", "onnx", "imageio"} & set(packages)
