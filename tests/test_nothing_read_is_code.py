"""Nothing that the package reads can become code: no pickle, no eval, no other program."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import sccodec
from sccodec.errors import WrongModel
from sccodec.profiles.registry import Model

PACKAGE = Path(sccodec.__file__).parent
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}

NEVER_IMPORTED = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("subprocess", "pty", "code", "runpy"),
}
NEVER_CALLED = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "os.execv", "os.spawnv", "yaml.load", "pandas.read_pickle"),
}
# Calls that are safe with an argument, and only if it is written out.
GUARDED = {
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}


def findings(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        found += [name for name in names if name.partition(".")[0] in NEVER_IMPORTED]
        found += [name for name in names if name in NEVER_CALLED | set(GUARDED)]
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found += ["allow_pickle"] * (ast.unparse(node.value) != "False")
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in NEVER_CALLED:
            found.append(called)
        if called in GUARDED:
            name, value = GUARDED[called]
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if given.get(name) != str(value):
                found.append(f"{called} without {name}={value}")
    return found


# `sccodec bench` measures whole processes: this program's own, without a shell.
ALLOWED = {"evaluate/speed.py": ["subprocess"]}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_makes_code_of_data(module):
    assert findings(MODULES[module].read_text()) == ALLOWED.get(module, [])


def test_the_guarded_calls_are_there_to_be_found():
    text = "".join(path.read_text() for path in MODULES.values())
    assert "np.load(" in text and "torch.load(" in text


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import subprocess",
        "from os import system",
        "from torch import load",
        "eval('1')",
        "exec(data)",
        "os.system('ls')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, None, allow_pickle=flag)",
        "np.savez(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_the_search_can_find(source):
    assert findings(source)


def test_what_looks_alike_is_not_found():
    assert findings("model.eval()\nre.compile('a')\nnp.load(p, allow_pickle=False)") == []


def test_an_array_with_objects_in_a_model_is_refused(tmp_path, tiny_model):
    for path in tiny_model.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    with np.load(tmp_path / "prior.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    arrays["tables.counts"] = np.array([Trap()], object)
    np.savez(tmp_path / "prior.npz", **arrays)
    with pytest.raises(WrongModel, match=r"prior\.npz cannot be read"):
        _ = Model(tmp_path).tables
    assert not (tmp_path / "run").exists()
