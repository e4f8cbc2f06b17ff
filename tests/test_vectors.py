"""Every vector gives its verdict, and the vectors are those that make.py makes."""

import importlib.util
from pathlib import Path

import pytest

from sccodec.container import from_bytes, to_bytes
from sccodec.errors import CodecError, Damaged, LimitExceeded, NotOurFile, Unsupported

FOLDER = Path(__file__).parents[1] / "formats/vectors"
VECTORS = sorted(FOLDER.glob("*.vector"))
VERDICTS = {
    Damaged: "damaged",
    Unsupported: "unsupported",
    NotOurFile: "not_our_file",
    LimitExceeded: "limit_exceeded",
}
assert len(VECTORS) >= 40, "vectors are missing from this checkout"


def read_vector(path):
    """(fields of the text header, file bytes)"""
    text, data = path.read_bytes().split(b"\n\n", 1)
    return dict(line.split(": ", 1) for line in text.decode().splitlines()), data


def verdict_on(data):
    """(verdict, reader or None) after reading everything."""
    try:
        reader = from_bytes(data)
    except CodecError as error:
        return VERDICTS[type(error)], None
    return ("damaged" if reader.check() else "ok"), reader


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_verdict(path):
    fields, data = read_vector(path)
    assert sorted(fields) == ["comment", "expect"]
    verdict, reader = verdict_on(data)
    assert verdict == fields["expect"]
    assert path.name.startswith(verdict + "_")
    if verdict == "ok":
        payloads = {
            layer.index: [
                reader.payload(layer.index, tile) if entry.present else b""
                for tile, entry in enumerate(reader.tiles[layer.index])
            ]
            for layer in reader.header.layers
        }
        assert to_bytes(reader.header, reader.tiles, payloads, extra=reader.chunks) == data


def test_most_are_bad_and_each_verdict_is_there():
    verdicts = [read_vector(path)[0]["expect"] for path in VECTORS]
    assert set(verdicts) == {"ok", *VERDICTS.values()}
    assert verdicts.count("ok") < len(verdicts) / 2


def test_vectors_are_those_of_the_generator():
    specification = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make.py")
    make = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(make)
    assert {path.name: path.read_bytes() for path in VECTORS} == make.vectors()
