"""`eval layers` and `bench` on small pictures: their figures agree with the files' own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import picture
from PIL import Image

import sccodec
from sccodec.errors import BadRequest
from sccodec.evaluate import adapters, layers, machine, speed, speed_report
from sccodec.evaluate.quality import psnr
from sccodec.profiles.registry import find

pytest.importorskip("scipy", reason="the [eval] extra is not installed")


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(picture(192, 256)).save(path)
    return str(path)


# -- layers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(photo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    # At this rate the PSNR of the untrained networks falls with the step, as a search expects.
    plan = layers.Plan([photo], [0.32], "tiny-1", 64, ("scc@tiny-1", "jpeg"))
    (row,) = layers.run(plan, folder)
    assert layers.run(plan, folder) == [row]  # from the journal
    layers.write(folder, [row])
    assert json.loads((folder / "layers.json").read_text())["rows"] == [row]
    return row


def test_layers_add_up_to_the_file(found):
    pixels = picture(192, 256)
    data = sccodec.encode(pixels, profile="tiny-1", rate=0.32)
    assert found["bytes"] == len(data)
    assert found["frame_bytes"] + sum(p["payload_bytes"] for p in found["layers"]) == len(data)
    base, top = found["layers"]
    assert (base["name"], top["name"], top["share"]) == ("base", "enhancement", 1.0)
    assert base["file_bytes"] == len(sccodec.extract(data))
    assert base["psnr"] == pytest.approx(psnr(pixels, sccodec.decode(data, "base")))
    told = sccodec.info(data)["layers"]
    assert [row["psnr"] for row in found["layers"]] == pytest.approx(
        [row["psnr"] for row in told], abs=0.011
    )
    assert found["stripping"]["same_pixels"] and found["stripping"]["joined_back"]


def test_the_price_of_a_layer(found):
    """Against itself the whole file costs nothing more; a layer may cost either way."""
    base, top = found["price"]["scc@tiny-1"]
    assert top["percent"] == pytest.approx(0, abs=2) and top["met"]
    assert base["bytes"] > 0
    for row, rows in zip(found["price"]["jpeg"], found["layers"], strict=True):
        assert row["percent"] == pytest.approx(100 * (rows["file_bytes"] / row["bytes"] - 1))


def test_a_codec_that_cannot_hold_a_picture_has_no_price():
    rows = [{"name": "base", "psnr": 30.0, "file_bytes": 100}]
    (row,) = layers.price(adapters.find("webp"), np.zeros((1, 17000, 3), np.uint8), rows)
    assert not row["met"] and "webp" in row["refused"]


def test_a_region_reads_less_and_damage_stays_local(found):
    region = found["region"]
    assert region["box"] == [0, 0, 128, 96]
    assert 0.1 < region["share_read"] < 0.9
    assert region["largest_difference"] <= 1
    for row in found["damage"]:
        assert row["tiles"] == 12
        assert 0 < row["pixels_changed"] < 0.5
        assert row["psnr"] < row["psnr_whole"]


def test_the_summary_names_what_was_refused(found):
    text = layers.summary([found, {"picture": "x.png", "rate": 9.0, "refused": "out of reach"}])
    assert text.startswith("0.32 bits per pixel, mean of 1:")
    assert "| base |" in text and "stripped and joined back to the same bytes: 1 of 1" in text
    assert text.endswith("x.png at 9: out of reach")


def test_scc_is_held_against_the_model_that_is_measured():
    """Whatever model is the default."""
    model = find("tiny-1")
    assert "tiny-1" in layers.rival("scc", model).version
    assert "photo-1" in layers.rival("scc@photo-1", model).version


def test_layers_of_nonsense(photo, tmp_path):
    for plan, words in (
        (layers.Plan([], [0.3], "tiny-1"), "no pictures"),
        (layers.Plan([photo], [0.3], "tiny-1", 100), "not a multiple of 64"),
        (layers.Plan([photo], [0.3], "tiny-1", against=("gif",)), "unknown codec"),
        (layers.Plan([photo], [0], "tiny-1"), "a rate of 0"),
    ):
        with pytest.raises(BadRequest, match=words):
            layers.run(plan, tmp_path / "new")
    plan = layers.Plan([photo], [40], "tiny-1", against=())
    assert "out of reach" in layers.run(plan, tmp_path)[0]["refused"]


# -- speed --------------------------------------------------------------------------------------


def test_a_scene_is_the_picture_and_its_mirror_images(photo):
    pixels = picture(192, 256)
    scene = speed.scene(photo, 0.2)
    assert scene.shape[0] * scene.shape[1] == pytest.approx(2e5, rel=0.01)
    np.testing.assert_array_equal(scene[:192, :256], pixels)
    np.testing.assert_array_equal(scene[192:360, :256], pixels[::-1][:168])
    np.testing.assert_array_equal(scene[:192, 256:512], pixels[:, ::-1])


def test_stages_are_found_and_disjoint(photo):
    """A stage of no seconds would mean that its function has gone."""
    codec, pixels = speed.bench_adapter("scc@tiny-1"), speed.scene(photo, 0.02)
    data = codec.encode(pixels, 300, 1)
    encode = speed.stages("encode", lambda: codec.encode(pixels, 300, 1))
    decode = speed.stages("decode", lambda: codec.decode(data, 1))
    search = speed.stages("encode", lambda: sccodec.encode(pixels, profile="tiny-1", rate=0.3))
    assert [name for name, seconds in encode.items() if not seconds] == ["rate search"]
    assert search["rate search"] > 0
    assert all(decode.values())
    assert encode["other"] > 0 and decode["other"] > 0


def test_bench_measures_and_goes_on(photo, tmp_path, monkeypatch):
    plan = speed.Plan(["scc@tiny-1", "jpeg"], [0.01], [1], photo, 1, whole_process=False)
    rows, notes = speed.run(plan, tmp_path)
    assert notes == [] and len(rows) == 2
    for row in rows:
        assert 0 < row["encode_s"] < 60 and 0 < row["decode_cpu_s"] < 60
        assert row["width"] * row["height"] == pytest.approx(row["megapixels"] * 1e6, rel=0.02)
        assert row["psnr"] > 20
        assert ("stages" in row) == (row["codec"] != "jpeg")
        assert (row["encode_peak"] is None) == (not machine.reset_peak())
    monkeypatch.setattr(speed, "warm", None)
    assert speed.run(plan, tmp_path)[0] == rows
    names = speed_report.write(tmp_path, machine.about(), rows, ["a note"])
    assert json.loads((tmp_path / names[0]).read_text())["rows"] == rows
    page = (tmp_path / names[1]).read_text()
    assert page.count("<svg") == 6 if machine.reset_peak() else 4
    assert "entropy decoding" in page and "a note" in page
    assert speed_report.summary(rows).count("\n") == 2


def test_a_size_that_a_codec_cannot_hold_is_left_out_and_said(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # Pillow's own limit, which is not ours
    monkeypatch.setattr(machine, "use_cores", lambda count: None)  # this process goes on
    adapter = speed.bench_adapter("webp")
    tall = np.zeros((16390, 1, 3), np.uint8)
    monkeypatch.setattr(speed, "scene", lambda _, size: tall if size == 0.02 else tall[:12000])
    monkeypatch.setattr(
        speed.rate, "run_all", lambda tasks, *_, **__: [(k, f(*a)) for k, f, a in tasks]
    )
    plan = speed.Plan([adapter.name], [0.01, 0.02], [1], photo, 1, whole_process=False)
    rows, notes = speed.run(plan, tmp_path)
    assert [row["megapixels"] for row in rows] == [0.01]
    assert len(notes) == 1 and notes[0].startswith("webp at 0.02 megapixels is left out: ")
    assert speed.run(plan, tmp_path) == (rows, notes)


def test_whole_processes(photo):
    facts = speed.whole_process(photo, "jpeg", 0.01, 1, 1)
    assert 0 < facts["process_encode_s"] < 60 and 0 < facts["process_decode_s"] < 60
    assert facts["process_encode_peak"] is None or facts["process_encode_peak"] > 2**20


def test_bench_of_nonsense(photo, tmp_path):
    for changes, words in (
        ({"sizes": [0.0]}, "a size of 0 megapixels"),
        ({"sizes": [1e9]}, "megapixels is not within"),
        ({"sizes": [0.2, 0.1]}, "sizes do not rise"),
        ({"sizes": []}, "no sizes"),
        ({"repeat": 0}, "0 repetitions"),
        ({"codecs": ["gif"]}, "unknown codec"),
    ):
        plan = {"codecs": ["jpeg"], "sizes": [0.1], "threads": [1], "picture": photo, **changes}
        with pytest.raises(BadRequest, match=words):
            speed.run(speed.Plan(**plan), tmp_path / "new")
        assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not machine.TASKS.is_dir(), reason="this system tells no threads")
def test_threads_that_have_started_are_held_on_the_cores_too():
    program = (
        "import os, threading\n"
        "from sccodec.evaluate import machine\n"
        "done = threading.Event()\n"
        "threading.Thread(target=done.wait, daemon=True).start()\n"
        "machine.use_cores(1)\n"
        "print({len(os.sched_getaffinity(int(t.name))) for t in machine.TASKS.iterdir()})\n"
        "done.set()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "{1}\n", result.stderr
