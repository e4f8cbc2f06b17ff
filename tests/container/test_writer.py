"""A file is written whole or not at all, and never one that a reader refuses."""

import io
import os
import stat
import subprocess
import sys

import pytest
from scc_samples import small_file, small_parts

from sccodec.container import Chunk, TileEntry, from_bytes, to_bytes, whole_file, write
from sccodec.errors import BadRequest, CodecError, LimitExceeded, Unsupported


def test_length_is_returned():
    out = io.BytesIO()
    assert write(out, *small_parts()) == len(out.getvalue())


def test_overhead_is_small():
    header, _, payloads, _ = small_parts()
    overhead = len(small_file()) - sum(len(p) for layer in payloads.values() for p in layer)
    chunks, tiles = 5 + len(header.layers), 12
    assert overhead <= 200 + 13 * chunks + 14 * tiles


def test_entries_must_be_those_of_the_payloads():
    header, tiles, payloads, _ = small_parts()
    for broken in (
        payloads | {0: [*payloads[0][:3], b"thr33"]},
        payloads | {0: payloads[0][:3]},
        {0: payloads[0]},
        payloads | {1: [b"x", *payloads[1][1:]]},
    ):
        out = io.BytesIO()
        with pytest.raises(BadRequest):
            write(out, header, tiles, broken)
        assert out.getvalue() == b""
    wrong_sum = tiles | {0: tuple(TileEntry.of(b"") for _ in range(4))}
    with pytest.raises(BadRequest, match="add up"):
        to_bytes(header, wrong_sum, payloads | {0: [b""] * 4})


def test_metadata_chunks_are_checked():
    header, tiles, payloads, _ = small_parts()
    for kind in ("HEAD", "DONE", "icc", "ICC", "ICC P", "ÄÄÄÄ"):
        with pytest.raises(BadRequest):
            to_bytes(header, tiles, payloads, {kind: b""})
    with pytest.raises(BadRequest, match="repeat"):
        to_bytes(header, tiles, payloads, {"ICCP": b""}, [Chunk("ICCP", 0, b"")])
    with pytest.raises(Unsupported):
        to_bytes(header, tiles, payloads, extra=[Chunk("ABCD", 1, b"")])
    with pytest.raises(LimitExceeded):
        to_bytes(header, tiles, payloads, {"EXIF": bytes(2**26 + 1)})


def names(folder):
    return sorted(os.listdir(folder))


def test_whole_file(tmp_path):
    path = tmp_path / "a.scc"
    with whole_file(path) as out:
        write(out, *small_parts())
        assert not path.exists()
    assert from_bytes(path.read_bytes()).check() == []
    assert names(tmp_path) == ["a.scc"]


def write_and_fail(path, error, **options):
    with whole_file(path, **options) as out:
        out.write(b"half")
        raise error("stop")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, CodecError])
def test_nothing_is_left_behind(tmp_path, error):
    path = tmp_path / "a.scc"
    with pytest.raises(error):
        write_and_fail(path, error)
    assert names(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_and_fail(path, error, force=True)
    assert names(tmp_path) == ["a.scc"]
    assert path.read_bytes() == b"old"


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "a.scc"
    path.write_bytes(b"old")
    with pytest.raises(BadRequest, match="exists") as caught, whole_file(path):
        pass
    assert "--force" in caught.value.hint
    with whole_file(path, force=True) as out:
        out.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.scc"
    with pytest.raises(BadRequest, match="exists"), whole_file(path):
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a.scc"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_permissions(tmp_path):
    path = tmp_path / "a.scc"
    old = os.umask(0o027)
    try:
        with whole_file(path):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    with whole_file(path, force=True):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="links are those of POSIX")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with whole_file(tmp_path / "link", force=True) as out:
        out.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no /dev/null on this system")
def test_devices_are_written_directly():
    with whole_file("/dev/null") as out:
        write(out, *small_parts())
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout on this system")
def test_standard_output_may_be_a_file_that_grows(tmp_path):
    code = (
        "from sccodec.container import whole_file\n"
        "with whole_file('/dev/stdout') as out: out.write(b'new')"
    )
    path = tmp_path / "out"
    path.write_bytes(b"old ")
    with open(path, "ab") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert path.read_bytes() == b"old new"
    assert names(tmp_path) == ["out"]


def test_folders_are_refused(tmp_path):
    with pytest.raises(BadRequest, match="folder"), whole_file(tmp_path):
        pass
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "a.scc"):
        pass
