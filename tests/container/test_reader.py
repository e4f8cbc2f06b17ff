"""The reader takes any file that the writer makes, and only CodecError leaves it."""

import io
import os
import sys
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scc_samples import expected_payloads, parts, rewritten, small_file, small_parts

from sccodec.container import (
    Chunk,
    Limits,
    Reader,
    from_bytes,
    from_file,
    from_stream,
    layout,
    open_path,
    rules,
    to_bytes,
)
from sccodec.errors import (
    BadRequest,
    CodecError,
    Damaged,
    LimitExceeded,
    NotOurFile,
    Unsupported,
)

SMALL = small_file()


@given(parts())
def test_read_gives_what_was_written(sample):
    header, tiles, payloads, metadata, extra = sample
    reader = from_bytes(to_bytes(*sample))
    assert reader.header == header
    assert reader.tiles == tiles
    assert expected_payloads(reader) == payloads
    assert reader.metadata == metadata | {chunk.type: chunk.payload for chunk in extra}
    assert reader.check() == []


@given(parts())
def test_written_again_it_is_the_same_file(sample):
    data = to_bytes(*sample)
    assert rewritten(from_bytes(data)) == data


@given(parts())
def test_structure_adds_up(sample):
    data = to_bytes(*sample)
    reader = from_bytes(data)
    at = 0
    for _, offset, length in reader.structure():
        assert offset == at
        at += length
    assert at == len(data) == reader.size


@given(st.binary(max_size=300))
def test_random_bytes(data):
    for start in (b"", layout.SIGNATURE, SMALL[:20]):
        with pytest.raises(CodecError):
            from_bytes(start + data)


def problems_of(data, **options):
    """Everything that opening, checking and reading finds; only CodecError may leave."""
    try:
        reader = from_bytes(data, **options)
        problems = reader.check()
        for place in reader.ranges():
            try:
                reader.payload(place.layer, place.tile)
            except Damaged:
                assert problems
        return problems
    except CodecError as error:
        return [error]


def test_every_single_bit_flip_is_found():
    for bit in range(8 * len(SMALL)):
        data = bytearray(SMALL)
        data[bit // 8] ^= 1 << bit % 8
        assert problems_of(bytes(data)), f"bit {bit} may flip unseen"
        problems_of(bytes(data), allow_partial=True)


def test_every_truncation_is_found():
    for length in range(len(SMALL)):
        with pytest.raises(NotOurFile if length == 0 else Damaged):
            from_bytes(SMALL[:length])
        assert problems_of(SMALL[:length], allow_partial=True)


@given(parts(), st.data())
def test_flips_and_cuts_of_any_file(sample, data):
    raw = bytearray(to_bytes(*sample))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert problems_of(bytes(raw))
    assert problems_of(bytes(raw[: data.draw(st.integers(0, len(raw) - 1))]), allow_partial=True)


def test_a_cut_file_gives_its_lower_layers():
    header, _, payloads, _ = small_parts()
    whole = from_bytes(SMALL)
    cut = whole.ranges([1])[0].offset + 5
    for size in (cut, None):  # the size may be unknown, as for a pipe
        data = SMALL[:cut]
        reader = Reader(lambda at, n, data=data: data[at : at + n], size, allow_partial=True)
        assert reader.header == header
        assert [reader.payload(0, t) for t in range(4)] == payloads[0]
        with pytest.raises(Damaged, match=r"layer 1 \(rest\), tile 1 at byte"):
            reader.payload(1, 1)
        assert {(p.layer, p.tile) for p in reader.check()} >= {(1, 1), (2, 0), (None, None)}
        assert not any(p.layer == 0 for p in reader.check())


def test_damage_names_file_layer_tile_and_offset():
    place = from_bytes(SMALL).ranges()[1]
    data = bytearray(SMALL)
    data[place.offset] ^= 1
    reader = from_bytes(bytes(data), name="photo.scc")
    reader.payload(0, 0)
    message = f"photo.scc: layer 0 (base), tile 1 at byte {place.offset}: checksum"
    with pytest.raises(Damaged) as caught:
        reader.payload(0, 1)
    assert str(caught.value).startswith(message)
    [problem] = reader.check()
    assert problem[:3] == (0, 1, place.offset)
    assert problem.message.startswith(message)


def test_damage_of_a_chunk_checksum_is_found_by_check():
    last = next(span for span in reversed(from_bytes(SMALL).structure()) if span[0] == "LAYR")
    data = bytearray(SMALL)
    data[last[1] + last[2] - 1] ^= 1
    [problem] = from_bytes(bytes(data)).check()
    assert problem[:3] == (2, None, last[1])


def test_asking_for_what_is_not_there():
    reader = from_bytes(SMALL)
    with pytest.raises(BadRequest, match="no layer 3; the file holds 0"):
        reader.payload(3, 0)
    with pytest.raises(BadRequest, match="has 4 tiles"):
        reader.payload(0, 4)
    with pytest.raises(BadRequest, match="has 4 tiles"):
        reader.payload(0, -1)
    with pytest.raises(BadRequest, match="is absent"):
        reader.payload(1, 0)


def big_file():
    header, tiles, payloads, _ = small_parts()
    return to_bytes(header, tiles, payloads, {"EXIF": bytes(100_000)}), payloads


def test_only_what_is_needed_is_read():
    data, payloads = big_file()
    asked = []

    def read_at(offset, length):
        asked.append((offset, length))
        return data[offset : offset + length]

    reader = Reader(read_at, allow_partial=True)
    directory_end = reader.ranges()[0].offset - layout.LAYER_HEAD_SIZE
    assert max(offset + length for offset, length in asked) <= directory_end
    before, asked[:] = reader.bytes_read, []
    assert reader.payload(2, 1) == payloads[2][1]
    assert asked == [reader.ranges([2])[1][2:]]
    assert reader.bytes_read - before == len(payloads[2][1])


def test_a_wild_length_allocates_nothing():
    data = bytearray(SMALL)
    at = layout.CHUNK_HEAD_SIZE + 4  # the length of HEAD
    for length in (60_000, 2**31 - 1):
        data[at : at + 4] = length.to_bytes(4, "little")
        tracemalloc.start()
        with pytest.raises(CodecError):
            from_bytes(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


def insert(kind, flags, payload=b"?", *, before="DIRE", crc_error=0):
    """The small file with one more chunk in front of the first one of a type."""
    at = next(offset for kind, offset, _ in from_bytes(SMALL).structure() if kind == before)
    chunk = bytearray(layout.pack_chunk(kind, flags, payload))
    chunk[-1] ^= crc_error
    return SMALL[:at] + chunk + SMALL[at:]


def refresh_end(data):
    """The same file with an end chunk of the right length."""
    return data[: -layout.END_SIZE] + layout.end_chunk(len(data))


def test_unknown_chunks():
    reader = from_bytes(refresh_end(insert("ABCD", 0)))
    assert reader.chunks[-1] == Chunk("ABCD", 0, b"?")
    for before in ("DIRE", "LAYR", "DONE"):
        with pytest.raises(Unsupported, match="critical chunk ABCD") as caught:
            from_bytes(refresh_end(insert("ABCD", 1, before=before)))
        assert "newer" in caught.value.hint
        with pytest.raises(Damaged):  # a flipped bit must not look like the future
            from_bytes(refresh_end(insert("ABCD", 1, before=before, crc_error=1)))
    with pytest.raises(Unsupported, match="flags"):
        from_bytes(refresh_end(insert("ABCD", 4)))
    with pytest.raises(Damaged):  # metadata stand in front of the directory
        from_bytes(refresh_end(insert("ABCD", 0, before="LAYR")))
    for kind in ("HEAD", "LAYR", "DONE"):
        with pytest.raises(Damaged):
            from_bytes(refresh_end(insert(kind, 1)))
    with pytest.raises(Damaged, match="repeat"):
        from_bytes(refresh_end(insert("ICCP", 2)))
    with pytest.raises(Damaged, match="type"):
        from_bytes(refresh_end(insert("icc ", 2)))


@pytest.mark.parametrize(("kind", "error"), [("{:04}", LimitExceeded), ("SAME", Damaged)])
def test_empty_chunks_have_an_end(kind, error):
    """They weigh nothing in any other limit, and behind HTTP a file may go on for ever."""
    at = next(at for kind, at, _ in from_bytes(SMALL).structure() if kind == "DIRE")
    empty = (layout.pack_chunk(kind.format(n), 0, b"") for n in range(2 * rules.MOST_CHUNKS))
    endless = SMALL[:at] + b"".join(empty)
    asked = []

    def read_at(offset: int, length: int) -> bytes:
        asked.append(offset)
        return endless[offset : offset + length]

    with pytest.raises(error, match="metadata chunk"):
        Reader(read_at)
    assert max(asked) < at + rules.MOST_CHUNKS * layout.CHUNK_OVERHEAD


def test_end():
    with pytest.raises(Damaged, match="bytes follow"):
        from_bytes(SMALL + b"x")
    with pytest.raises(Damaged, match="bytes follow"):
        Reader(lambda at, length: (SMALL + b"x")[at : at + length])
    with pytest.raises(Damaged, match="DONE"):
        from_bytes(SMALL[: -layout.END_SIZE] + layout.end_chunk(len(SMALL) + 1))


def test_limits():
    from_bytes(SMALL, limits=Limits(max_metadata=16))
    for limits in (Limits(max_metadata=15), Limits(max_pixels=99), Limits(max_chunk=50)):
        with pytest.raises(LimitExceeded):
            from_bytes(SMALL, limits=limits)


@pytest.mark.parametrize(
    ("start", "error"),
    [
        (b"\x89PNG\r\n\x1a\n", NotOurFile),
        (b"\x89SCC\n\x1a\n", Damaged),
        (b"\x09SCC\r\n\x1a\n", Damaged),
        (b"", NotOurFile),
    ],
)
def test_signatures(start, error):
    with pytest.raises(error):
        from_bytes(start + SMALL[8:] if start else b"")


def test_paths_and_streams(tmp_path):
    path = tmp_path / "a.scc"
    path.write_bytes(SMALL)
    with open_path(path) as reader:
        assert reader.name == str(path)
        assert rewritten(reader) == SMALL
    reader = from_stream(io.BytesIO(SMALL))
    assert rewritten(reader) == SMALL
    assert (reader.bytes_read, reader.requests) == (len(SMALL), 1)  # all of it, whatever is used
    path.write_bytes(SMALL[:100])
    with pytest.raises(Damaged, match=r"a\.scc"):
        open_path(path)
    with pytest.raises(FileNotFoundError):
        open_path(tmp_path / "none.scc")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_read_whole(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(SMALL,))
    writer.start()
    with open_path(pipe) as reader:
        assert rewritten(reader) == SMALL
    writer.join()


def test_threads_share_one_open_file(tmp_path):
    path = tmp_path / "a.scc"
    path.write_bytes(SMALL)
    with open_path(path) as reader:
        results = []

        def work():
            results.extend(expected_payloads(reader) == small_parts()[2] for _ in range(50))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 200


class Dribble(io.RawIOBase):
    """An unbuffered file whose reads give 100 bytes at most."""

    def __init__(self, data: bytes, seekable: bool):
        self._file, self._seekable = io.BytesIO(data), seekable

    def readable(self):
        return True

    def seekable(self):
        return self._seekable

    def seek(self, *where):
        return self._file.seek(*where)

    def read(self, size=-1):
        return self._file.read(100 if size < 0 else min(size, 100))


@pytest.mark.parametrize("opened", [from_file, from_stream])
def test_reads_may_give_less_than_was_asked_for(opened):
    assert rewritten(opened(Dribble(SMALL, opened is from_file))) == SMALL


@pytest.mark.skipif(not hasattr(os, "pread"), reason="no pread on this system")
def test_a_path_may_give_less_than_was_asked_for(tmp_path, monkeypatch):
    path, pread = tmp_path / "a.scc", os.pread
    path.write_bytes(SMALL)
    monkeypatch.setattr(os, "pread", lambda file, length, at: pread(file, min(length, 20), at))
    with open_path(path) as reader:
        assert rewritten(reader) == SMALL


def test_what_is_not_ready_is_said():
    stream = Dribble(SMALL, False)
    stream.read = lambda: None  # as of a pipe that is set not to wait
    with pytest.raises(BlockingIOError, match="not ready"):
        from_stream(stream)


def test_an_open_file_stands_where_it_stood():
    file = io.BytesIO(b"junk" + SMALL)
    for _ in range(2):
        file.seek(4)
        with from_file(file) as reader:
            assert rewritten(reader) == SMALL
        assert file.tell() == 4
    file.seek(4)
    readers = [from_file(file), from_file(file)]  # opening leaves it where it stood
    assert [rewritten(reader) for reader in readers] == [SMALL, SMALL]
    file.seek(0)
    with pytest.raises(NotOurFile):
        from_file(file)
    assert file.tell() == 0
    file.seek(4)
    with from_file(file):
        file.close()  # and leaving it then is no error


def test_a_file_that_is_cut_while_it_is_read():
    file = io.BytesIO(big_file()[0])
    with from_file(file) as reader:
        place = reader.ranges()[-1]
        file.truncate(place.offset + 1)
        with pytest.raises(Damaged, match="was cut while it was read"):
            reader.payload(place.layer, place.tile)


def test_nothing_is_asked_for_beyond_a_known_size():
    for size in range(len(SMALL)):

        def read_at(offset, length, size=size):
            assert 0 <= offset <= offset + length <= max(size, offset)
            return SMALL[offset : offset + length]

        try:
            reader = Reader(read_at, size, allow_partial=True)
        except CodecError:
            continue
        reader.check()


def test_the_standard_library_is_enough():
    import subprocess

    code = (
        "import sys, sccodec.container;"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('numpy', 'torch', 'onnxruntime', 'constriction', 'PIL', 'click')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
