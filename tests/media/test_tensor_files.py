"""Tensor files: read as they are, by content, and never as code."""

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccodec.errors import BadRequest, CodecError, Damaged, LimitExceeded, NotOurFile, Unsupported
from sccodec.media.tensor import Tensor, from_array, narrowed, read, widened, write

KINDS = ("float32", "float16", "float64", "int8")


def some(kind: str, shape=(2, 3, 4)) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 20, shape).astype(kind)


def npy(array, **options) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def safetensors(header: dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["npy", "npz", "safetensors"])
def test_what_is_written_is_read(tmp_path, kind, format):
    path = tmp_path / f"x.{format}"
    with open(path, "wb") as out:
        assert write([from_array(some(kind), "x")], out, format) == []
    for source in (path, path.read_bytes()):
        (found,) = read(source)
        assert found.kind == kind
        assert found.name == ("" if format == "npy" else "x")
        np.testing.assert_array_equal(found.values, some(kind))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)])
def test_odd_shapes(tmp_path, shape):
    for format in ("npy", "npz", "safetensors"):
        out = io.BytesIO()
        write([from_array(np.ones(shape, np.float32), "a")], out, format)
        (tmp_path / "x").write_bytes(out.getvalue())
        assert read(tmp_path / "x")[0].shape == shape


def test_several_tensors_and_awkward_names():
    tensors = [from_array(some("float32"), name) for name in ("file", "a/b", "é")]
    for format in ("npz", "safetensors"):
        out = io.BytesIO()
        write(tensors, out, format)
        assert [found.name for found in read(out.getvalue())] == ["file", "a/b", "é"]
    with pytest.raises(BadRequest, match="3 tensors do not fit"):
        write(tensors, io.BytesIO(), "npy")


def test_bfloat16_lives_in_safetensors_and_widens_elsewhere():
    bits = np.array([0x3F80, 0xC000, 0x0001], np.uint16)
    tensor = Tensor("b", bits, "bfloat16")
    out = io.BytesIO()
    assert write([tensor], out, "safetensors") == []
    (found,) = read(out.getvalue())
    assert found.kind == "bfloat16"
    np.testing.assert_array_equal(found.values, bits)
    assert found.array()[:2].tolist() == [1, -2]
    out = io.BytesIO()
    assert write([tensor], out, "npz") == ["b: bfloat16 written as float32"]
    assert read(out.getvalue())[0].kind == "float32"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_bfloat16_rounds_to_the_nearest(value):
    value = np.float32(value)
    found = widened(narrowed(np.array([value])))[0]
    bits = int(narrowed(np.array([value]))[0])
    assert np.isfinite(found)
    for other in (bits - 1, bits + 1):
        if 0 <= other < 65536:
            neighbour = float(widened(np.array([other], np.uint16))[0])
            if np.isfinite(neighbour):
                assert abs(float(found) - float(value)) <= abs(neighbour - float(value))


def test_ml_dtypes_are_taken_where_they_are_installed():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    found = from_array(np.array([1.5, -2], ml_dtypes.bfloat16))
    assert found.kind == "bfloat16"
    assert found.floats().tolist() == [1.5, -2]


def test_big_endian_and_fortran_order(tmp_path):
    array = np.asfortranarray(some("float32")).astype(">f4")
    np.save(tmp_path / "x.npy", array)
    (found,) = read(tmp_path / "x.npy")
    np.testing.assert_array_equal(found.floats(), array)


def test_files_are_mapped_and_not_read(tmp_path):
    np.save(tmp_path / "x.npy", some("float32"))
    with open(tmp_path / "x.safetensors", "wb") as out:
        write([from_array(some("float32"), "x")], out, "safetensors")
    for name in ("x.npy", "x.safetensors"):
        values = read(tmp_path / name)[0].values
        while values is not None and not isinstance(values, np.memmap):
            values = values.base
        assert isinstance(values, np.memmap), name


def test_a_tensor_without_a_name_takes_that_of_no_other():
    for format, name in (("safetensors", "tensor"), ("npz", "arr_0")):
        tensors = [from_array(some("float32")), from_array(np.ones(3, np.float32), name)]
        out = io.BytesIO()
        write(tensors, out, format)
        found = {tensor.name: tensor.values for tensor in read(out.getvalue())}
        assert found.keys() == {name, f"{name}_1"}
        np.testing.assert_array_equal(found[f"{name}_1"], some("float32"))


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_objects_are_refused_and_never_unpickled(tmp_path):
    array = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "x.npz", a=array)
    for source in (npy(array, allow_pickle=True), tmp_path / "x.npz"):
        with pytest.raises(BadRequest, match="never unpickled"):
            read(source)
    (tmp_path / "x.npy").write_bytes(npy(array, allow_pickle=True))
    with pytest.raises(BadRequest, match="never unpickled"):
        read(tmp_path / "x.npy")
    with pytest.raises(BadRequest, match="holds object"):
        from_array(array)


def encrypted(data: bytes) -> bytes:
    """A zip whose members say that a password is needed."""
    for head, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(head) + flags
        data = data[:at] + bytes([data[at] | 1]) + data[at + 1 :]
    return data


def method(data: bytes, number: int) -> bytes:
    """A zip whose members say that they are compressed in another way."""
    for head, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at = data.index(head) + place
        data = data[:at] + struct.pack("<H", number) + data[at + 2 :]
    return data


def npz(array) -> bytes:
    out = io.BytesIO()
    np.savez(out, a=array)
    return out.getvalue()


F4 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotOurFile),
        (b"\x89PNG\r\n\x1a\n", NotOurFile),
        (npy(some("float32"))[:-1], Damaged),
        (npy(some("float32"))[:20], Damaged),
        (npy(some("float32").astype(complex)), BadRequest),
        (npy(np.ones(3, np.int64)), BadRequest),
        (npy(np.array(["text"])), BadRequest),
        (b"PK\x03\x04 and nothing that is a zip", Damaged),
        (encrypted(npz(some("float32"))), Unsupported),
        (method(npz(some("float32")), 9), Unsupported),
        (method(npz(some("float32")), 14), Damaged),
        (safetensors({"a": F4}), Damaged),
        (safetensors({"a": F4}, bytes(8), length=2**63), LimitExceeded),
        (safetensors({"a": F4}, bytes(8), length=1000), Damaged),
        (safetensors({"a": {**F4, "shape": [3]}}, bytes(8)), Damaged),
        (safetensors({"a": {**F4, "shape": [-2]}}, bytes(8)), Damaged),
        (safetensors({"a": {**F4, "data_offsets": [8, 0]}}, bytes(8)), Damaged),
        (safetensors({"a": {**F4, "data_offsets": [0.5, 8]}}, bytes(8)), Damaged),
        (safetensors({"a": [1]}, bytes(8)), Damaged),
        (safetensors({"a": {**F4, "dtype": "C64"}}, bytes(8)), Unsupported),
        (struct.pack("<Q", 3) + b"{,}", Damaged),
    ],
)
def test_bad_files(tmp_path, data, error):
    for source in (data, tmp_path / "x"):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(error) as caught:
            read(source)
        assert isinstance(caught.value, CodecError)


def test_a_file_that_is_cut_short_tells_where(tmp_path):
    whole = npy(some("float32"))
    (tmp_path / "cut.npy").write_bytes(whole[:-3])
    kept = f"{len(whole) - 3} of {len(whole)} bytes"
    with pytest.raises(Damaged, match=f"cut.npy: ends after {kept}"):
        read(tmp_path / "cut.npy")
