"""Models are found by id and digest, and a folder that is not whole is refused by name."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS

import sccodec
from sccodec.errors import WrongModel
from sccodec.profiles.registry import Model, find, installed

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny.scc"


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
    (folder / "digest.txt").unlink()
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


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', "[" * 100_000])
def test_a_description_that_is_none_is_refused(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(WrongModel):
        Model(folder)


@pytest.mark.parametrize(("part", "value"), [("layers", [1]), ("trained", 3)])
def test_a_description_of_another_kind_is_refused_by_its_path(folder, part, value):
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {part: value}))
    with pytest.raises(WrongModel, match=re.escape(str(folder))):
        Model(folder)


def test_a_model_that_is_being_exported_is_not_found(folder):
    folder.rename(folder.with_name(".tiny-1.7.part"))
    assert [model.folder for model in installed()[0] if model.id == "tiny-1"] == []


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_a_graph_that_cannot_be_loaded_is_refused(folder, content):
    (folder / "base.onnx").unlink()
    if content is not None:
        (folder / "base.onnx").write_bytes(content)
    with pytest.raises(WrongModel, match=r"base\.onnx"):
        _ = Model(folder).heads[0].graph.session


# -- the digest beside the files ------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.json", "prior.npz", "analysis.onnx", "enhancement.onnx"])
def test_a_folder_with_a_changed_file_is_refused_before_it_is_loaded(folder, monkeypatch, file):
    content = (folder / file).read_bytes()
    # A space keeps JSON readable; elsewhere any other last byte will do.
    last = b"\n " if file == "model.json" else bytes([content[-1] ^ 1])
    (folder / file).write_bytes(content[:-1] + last)

    def loaded(*_, **__):
        raise AssertionError("a part of the model was loaded")

    monkeypatch.setattr("numpy.load", loaded)
    monkeypatch.setattr("sccodec.transform.graphs.Graph._load", loaded)
    with pytest.raises(WrongModel, match=r"tiny-1 is damaged: .* digest\.txt"):
        sccodec.encode(np.zeros((8, 8), np.uint8), profile="tiny-1")
    with pytest.raises(WrongModel, match="is damaged"):
        sccodec.decode(GOLDEN)


def test_a_sound_folder_beside_a_damaged_one_is_found(folder, tmp_path, monkeypatch):
    sound = shutil.copytree(folder, tmp_path / "more" / "tiny-1")
    (folder / "base.onnx").write_bytes(b"")
    monkeypatch.setenv("SCCODEC_MODELS", os.pathsep.join(map(str, (tmp_path, sound.parent))))
    assert find("tiny-1").folder == sound


def test_a_digest_that_cannot_be_read_is_no_promise_kept(folder):
    (folder / "digest.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(WrongModel, match=r"digest\.txt"):
        find("tiny-1")


def test_every_model_here_has_its_digest():
    shipped = Path(sccodec.__file__).parent / "models"
    folders = [
        path.parent for path in [*shipped.glob("*/model.json"), MODELS / "tiny-1/model.json"]
    ]
    assert len(folders) >= 2
    for folder in folders:
        assert (folder / "digest.txt").read_text().strip() == Model(folder).digest
