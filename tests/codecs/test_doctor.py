"""The doctor calls the tiny model sound, and names the part that is not."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import MODELS
from make_doctor import make

from sccodec.codecs import doctor
from sccodec.entropy import coder, fixed
from sccodec.profiles import registry
from sccodec.transform.graphs import Graph

PARTS = {
    "model",
    "networks",
    "coder, plain",
    "coder, constriction",
    "symbols of a file",
    "pixels of a file",
}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory, tiny_model):
    """Vectors of the tiny model, as make_doctor.py makes them for the one that is shipped."""
    folder = tmp_path_factory.mktemp("vectors")
    make("tiny-1", folder)
    return folder


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A copy of the tiny model that nothing is loaded of yet."""
    monkeypatch.setenv("SCCODEC_MODELS", str(tmp_path))
    return shutil.copytree(MODELS / "tiny-1", tmp_path / "tiny-1")


def differing(folder) -> set[str]:
    checks = doctor.examine(folder)
    assert {check.part for check in checks} <= PARTS
    return {check.part for check in checks if not check.ok}


def test_a_sound_machine(vectors):
    checks = doctor.examine(vectors)
    assert all(check.ok for check in checks), checks
    assert {check.part for check in checks} >= PARTS - {"coder, constriction"}


def test_the_shipped_vectors_are_of_the_shipped_model():
    expected = json.loads((doctor.VECTORS / "expected.json").read_text())
    assert expected["model"] == registry.DEFAULT
    assert expected["digest"] == registry.find(registry.DEFAULT).digest


def test_networks_that_round_otherwise(vectors, fresh, monkeypatch):
    settle = fixed.settle
    monkeypatch.setattr(fixed, "settle", lambda total, leaky: settle(total + 2**11, leaky))
    assert differing(vectors) == {"networks", "symbols of a file", "pixels of a file"}


def test_a_coder_with_other_tables(vectors, fresh, monkeypatch):
    real = coder.Models._build

    def other(self, counts):
        return real(self, np.roll(counts, 1))

    monkeypatch.setattr(coder.Models, "_build", other)
    assert differing(vectors) >= {"coder, plain", "symbols of a file"}
    assert not differing(vectors) & {"model", "networks"}


def test_only_the_fast_coder(vectors, fresh, monkeypatch):
    if coder.AnsCoder is None:
        pytest.skip("constriction is missing")
    real = coder.Categorical
    monkeypatch.setattr(coder, "Categorical", lambda p, perfect: real(p[::-1].copy(), perfect=True))
    found = differing(vectors)
    assert "coder, constriction" in found
    assert not found & {"model", "networks", "coder, plain"}


def test_a_synthesis_that_computes_otherwise(vectors, fresh, monkeypatch):
    real = Graph.run
    monkeypatch.setattr(
        Graph, "run", lambda self, **x: {name: y + 3 for name, y in real(self, **x).items()}
    )
    assert differing(vectors) == {"pixels of a file"}


def test_a_model_with_a_changed_file(vectors, fresh):
    (fresh / "base.onnx").write_bytes((fresh / "base.onnx").read_bytes() + b"\0")
    checks = doctor.examine(vectors)
    assert not any(check.ok for check in checks)
    assert "is damaged: its files do not have the digest" in checks[0].seen
