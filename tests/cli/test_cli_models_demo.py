"""`sccodec models` and `sccodec demo`."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from shell import pixels, run

import sccodec
from sccodec.profiles import registry


def test_models_says_what_is_installed(tiny_model):
    result = run("models")
    assert result.out.decode().startswith(f"tiny-1  {tiny_model.digest[:16]}  photo  ")
    row = run("models", "--json").rows()[0]
    assert (row["id"], row["digest"]) == ("tiny-1", tiny_model.digest)
    assert row["bytes"] == sum(p.stat().st_size for p in tiny_model.folder.iterdir())
    assert [layer["name"] for layer in row["layers"]] == ["base", "enhancement"]


def test_no_models(monkeypatch):
    monkeypatch.setattr(registry, "folders", list)
    result = run("models")
    assert (result.code, result.out) == (3, b"")
    assert result.errors == ["sccodec: error: no model is installed"]
    assert "SCCODEC_MODELS" in result.hints[0]


def test_a_broken_folder_does_not_hide_the_others(tmp_path, monkeypatch, tiny_model):
    (tmp_path / "old-1").mkdir()
    (tmp_path / "old-1" / "model.json").write_text('{"format": 99}')
    monkeypatch.setattr(registry, "folders", lambda: [tmp_path, tiny_model.folder.parent])
    result = run("models")
    assert (result.code, result.out[:6]) == (3, b"tiny-1")
    assert result.errors == ["sccodec: error: model old-1 has format 99, we read 1"]
    assert registry.find("tiny-1").digest == tiny_model.digest
    with pytest.raises(
        sccodec.WrongModel, match=r"installed: tiny-1 .*; model old-1 has format 99"
    ):
        registry.find("old-1")


def test_a_damaged_model_is_not_told_as_installed(tmp_path, monkeypatch, tiny_model):
    folder = shutil.copytree(tiny_model.folder, tmp_path / "tiny-1")
    (folder / "base.onnx").write_bytes(b"other")
    monkeypatch.setattr(registry, "folders", lambda: [tmp_path])
    result = run("models")
    assert (result.code, result.out) == (3, b"")
    assert "tiny-1 is damaged" in result.errors[0]


def test_control_characters_of_a_note_are_escaped(tmp_path, monkeypatch, tiny_model):
    folder = shutil.copytree(tiny_model.folder, tmp_path / "tiny-1")
    about = json.loads((folder / "model.json").read_text())
    about["trained"] = {"note": "\x1b[31mred \ud800"}
    (folder / "model.json").write_text(json.dumps(about))
    (folder / "digest.txt").unlink()
    monkeypatch.setattr(registry, "folders", lambda: [tmp_path])
    result = run("models")
    assert result.code == 0, result.err
    assert b"\x1b" not in result.out and b"red" in result.out


@pytest.fixture
def photo_is_tiny(monkeypatch):
    monkeypatch.setitem(registry.PROFILES, "photo", "tiny-1")
    monkeypatch.setattr(registry, "DEFAULT", "tiny-1")


def test_demo_runs_the_main_job(tmp_path, monkeypatch, photo_is_tiny):
    monkeypatch.chdir(tmp_path)
    result = run("demo", "--rate", "0.5")
    assert result.code == 0, result.err
    folder = tmp_path / "sccodec-demo"
    names = "all.png base.png base.scc joined.scc original.png photo.scc rest.scc"
    assert [path.name for path in sorted(folder.iterdir())] == names.split()
    whole = (folder / "photo.scc").read_bytes()
    assert (folder / "joined.scc").read_bytes() == whole
    original = pixels(folder / "original.png").astype(float)
    table = [line.split() for line in result.out.decode().splitlines()[1:3]]
    for name, size, bpp, psnr in table:
        file = folder / ("base.scc" if name == "base" else "photo.scc")
        assert int(size) == file.stat().st_size
        assert float(bpp) == pytest.approx(8 * int(size) / original[..., 0].size, abs=1e-4)
        error = np.square(pixels(folder / f"{name}.png") - original).mean()
        assert float(psnr) == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)
        told = sccodec.info(whole)["layers"][name == "all"]["psnr"]
        assert float(psnr) == pytest.approx(told, abs=0.011)
    rows = run("demo", "--json").out  # a second run replaces the files
    assert rows.startswith(b'[{"layers": "base"')
    for name in names.split()[:4]:
        (folder / name).unlink()
    assert run("demo").code == 0  # as after an interrupted run
    for content in (b"mine", None):
        if content is None:
            (folder / "original.png").unlink()
        else:
            (folder / "original.png").write_bytes(content)
        before = (folder / "photo.scc").stat().st_mtime_ns
        for output in ("sccodec-demo", ""):  # what may be somebody's own is not replaced
            assert run("demo", "-o", output).code == 1
        assert (folder / "photo.scc").stat().st_mtime_ns == before
