"""Models are found by id and digest, and a folder that is not whole is refused by name."""

import json
import shutil

import pytest
from conftest import MODELS

from sccodec.errors import WrongModel
from sccodec.profiles.registry import Model, find


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the tiny model, the only one that SCCODEC_MODELS names."""
    monkeypatch.setenv("SCCODEC_MODELS", str(tmp_path))
    return shutil.copytree(MODELS / "tiny-1", tmp_path / "tiny-1")


def test_a_model_is_found_by_the_first_bytes_of_its_digest(tiny_model):
    assert find("tiny-1", bytes.fromhex(tiny_model.digest)[:8]).digest == tiny_model.digest


def test_a_model_that_is_not_there_is_refused_with_those_that_are(tiny_model):
    with pytest.raises(WrongModel, match=f"not installed.*tiny-1 .{tiny_model.digest[:16]}"):
        find("nowhere-1")


@pytest.mark.parametrize("file", ["model.json", "prior.npz", "base.onnx"])
def test_the_digest_covers_every_file(folder, tiny_model, file):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content + b"\n")
    assert Model(folder).digest != tiny_model.digest
    with pytest.raises(WrongModel, match="another model of that name"):
        find("tiny-1", bytes.fromhex(tiny_model.digest)[:8])


def test_the_digest_ignores_other_files(folder, tiny_model):
    (folder / "README.md").write_text("notes")
    assert Model(folder).digest == tiny_model.digest


@pytest.mark.parametrize("length", [0, 10, 1000, -100])
def test_a_damaged_prior_is_refused(folder, length):
    content = (folder / "prior.npz").read_bytes()
    (folder / "prior.npz").write_bytes(content[:length])
    with pytest.raises(WrongModel, match=r"prior\.npz"):
        _ = Model(folder).tables


def test_every_changed_kilobyte_of_a_prior_is_refused(folder):
    content = (folder / "prior.npz").read_bytes()
    for at in range(0, len(content), 4096):
        (folder / "prior.npz").write_bytes(content[:at] + bytes(1024) + content[at + 1024 :])
        with pytest.raises(WrongModel):
            _ = Model(folder).priors


@pytest.mark.parametrize("missing", ["format", "id", "profile", "layers", "analysis", "tables"])
def test_a_description_without_a_part_is_refused(folder, missing):
    about = json.loads((folder / "model.json").read_text())
    del about[missing]
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(WrongModel, match=missing):
        Model(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}'])
def test_a_description_that_is_none_is_refused(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(WrongModel):
        Model(folder)


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_a_graph_that_cannot_be_loaded_is_refused(folder, content):
    (folder / "base.onnx").unlink()
    if content is not None:
        (folder / "base.onnx").write_bytes(content)
    with pytest.raises(WrongModel, match=r"base\.onnx"):
        _ = Model(folder).heads[0].session
