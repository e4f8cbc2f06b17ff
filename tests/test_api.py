"""`import sccodec` as programs use it: what each function takes, and what it says to the rest."""

from __future__ import annotations

import codecs
import gzip
import io
import mmap
import multiprocessing
import os
import sys

import numpy as np
import pytest
from conftest import picture
from PIL import Image

import sccodec
from sccodec.errors import BadRequest, Damaged, NotOurFile
from sccodec.media.image import Picture


@pytest.fixture(scope="module")
def pixels():
    return picture(130, 200)


@pytest.fixture(scope="module")
def scc(tiny_model, pixels) -> bytes:
    return sccodec.encode(pixels, profile=tiny_model.id, tile=64)


@pytest.fixture
def path(scc, tmp_path):
    path = tmp_path / "photo.scc"
    path.write_bytes(scc)
    return path


# -- sources -------------------------------------------------------------------------------


def test_bytes_of_every_kind_and_files_are_decoded(scc, path):
    whole = sccodec.decode(scc)
    for source in (bytearray(scc), memoryview(scc), str(path), path, io.BytesIO(scc)):
        np.testing.assert_array_equal(sccodec.decode(source), whole)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for _ in range(2):
            np.testing.assert_array_equal(sccodec.decode(mapped), whole)
            assert sccodec.info(file)["name"] == str(path)


def test_a_file_that_is_open_as_text_is_refused(path):
    with open(path, encoding="latin-1") as file, codecs.open(path, encoding="latin-1") as other:
        for source in (file, other, io.StringIO("x")):
            for function in (sccodec.decode, sccodec.encode):
                with pytest.raises(BadRequest, match="opened as text"):
                    function(source)


def test_files_without_a_name_or_a_way_to_seek(scc):
    class Reads:
        def __init__(self):
            self.read, self.tell = io.BytesIO(scc).read, lambda: 0

    assert sccodec.info(Reads())["layers"] == sccodec.info(scc)["layers"]
    packed = io.BytesIO(gzip.compress(scc))
    assert sccodec.info(gzip.GzipFile(fileobj=packed))["name"] == "<file>"


def test_layers_that_are_no_names(scc):
    for layers in ([["base"]], [0, 1], 1.0):
        with pytest.raises(BadRequest):
            sccodec.decode(scc, layers)
    both = sccodec.decode(scc, np.array(["base", "enhancement"]))
    np.testing.assert_array_equal(both, sccodec.decode(scc))


def test_a_file_at_its_end_is_told_from_another_one(scc):
    file = io.BytesIO()
    file.write(scc)
    with pytest.raises(NotOurFile) as caught:
        sccodec.decode(file)
    assert caught.value.hint == f"it is read from byte {len(scc)}, where the open file stands"


def test_errors_name_an_open_file(scc, tmp_path):
    path = tmp_path / "bad.scc"
    path.write_bytes(scc[:-40] + bytes([scc[-40] ^ 1]) + scc[-39:])
    with open(path, "rb") as file, pytest.raises(Damaged, match=r"bad\.scc: layer 1"):
        sccodec.decode(file)


@pytest.mark.parametrize("source", [3, True, None, [1], object()])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(BadRequest, match="is not a"):
        sccodec.decode(source)
    with pytest.raises(BadRequest, match="is not an array, an image, a path"):
        sccodec.encode(source, profile="tiny-1")


def test_a_number_is_no_open_file(path):
    with open(path, "rb") as file:
        with pytest.raises(BadRequest):
            sccodec.encode(file.fileno(), profile="tiny-1")
        assert os.fstat(file.fileno()).st_size == path.stat().st_size


def _checks(file, results):
    results.put(sum(len(file.reader.check()) for _ in range(50)))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_forked_processes_share_an_open_file(path):
    fork = multiprocessing.get_context("fork")
    with sccodec.open(path) as file:
        results = fork.Queue()
        workers = [fork.Process(target=_checks, args=(file, results)) for _ in range(3)]
        for worker in workers:
            worker.start()
        assert [results.get(timeout=60) for _ in workers] == [0, 0, 0]
        for worker in workers:
            worker.join()


# -- options -------------------------------------------------------------------------------


def test_a_pillow_image_twice_is_the_same_file(pixels):
    image = Image.fromarray(pixels).convert("P")
    image.info["transparency"] = 5
    first = sccodec.encode(image, profile="tiny-1")
    assert sccodec.encode(image, profile="tiny-1") == first
    assert sccodec.decode(first).shape == (130, 200, 4)


def test_layers_and_bytes_exclude_each_other(scc):
    assert sccodec.extract(scc) == sccodec.extract(scc, "base")
    assert sccodec.extract(scc, max_bytes=len(scc)) == scc
    with pytest.raises(BadRequest, match="exclude each other"):
        sccodec.extract(scc, "enhancement", max_bytes=len(scc))


def test_kinds_of_metadata_are_words_or_a_list(pixels):
    given = Picture(pixels, metadata={"icc": b"inks", "xmp": b"<x/>"})
    for metadata in ("icc", ["icc"], ("icc", "exif")):
        data = sccodec.encode(given, profile="tiny-1", metadata=metadata)
        assert set(sccodec.open(data).picture().metadata) == {"icc"}
    for metadata in (None, 3, ["icm"], [3]):
        with pytest.raises(BadRequest, match="unknown kind of metadata"):
            sccodec.encode(given, profile="tiny-1", metadata=metadata)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"roi": 5}, "not x, y, w, h"),
        ({"roi": (0.0, 0.0, 9.0, 9.0)}, "not x, y, w, h"),
        ({"effort": 2.5}, "not within 1..9"),
        ({"profile": "tensor"}, "a picture is no tensor"),
    ],
)
def test_options_of_pictures_that_make_no_sense(pixels, options, words):
    with pytest.raises(BadRequest, match=words):
        sccodec.encode(Picture(pixels), **{"profile": "tiny-1", **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [({"metadata": "icc"}, "for pictures"), ({"layers": 0}, "0 layers")],
)
def test_options_of_tensors_that_make_no_sense(options, words):
    with pytest.raises(BadRequest, match=words):
        sccodec.encode(np.zeros((3, 8, 8), np.float32), **options)


def test_a_batch_of_pictures_is_told_what_a_picture_is():
    with pytest.raises(BadRequest) as caught:
        sccodec.encode(np.zeros((2, 8, 8, 3), np.uint8))
    assert "a picture is (H, W) or (H, W, 1..4)" in caught.value.hint
