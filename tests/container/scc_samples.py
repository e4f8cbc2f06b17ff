"""Files for the tests: one small fixed file, and hypothesis strategies for any file."""

import string

from hypothesis import strategies as st

from sccodec.container import ABSENT, Chunk, Header, LayerEntry, TileEntry, tile_grid, to_bytes


def layer_entry(index, name, payloads, *, needs=0, columns=2, rows=2, purpose=0, step=256):
    size = sum(map(len, payloads))
    return LayerEntry(index, name, purpose, needs, step, columns, rows, size)


def small_parts():
    """(header, tiles, payloads, metadata) of a picture with three layers of 2x2 tiles."""
    payloads = {
        0: [b"base tile zero", b"one", b"", b"three"],
        1: [b"", b"enhancement" * 3, b"", b""],
        2: [b"machine", b"eyes", b"see", b"this"],
    }
    tiles = {i: tuple(TileEntry.of(p, symbols=i) for p in payloads[i]) for i in payloads}
    tiles[1] = (ABSENT, TileEntry.of(payloads[1][1], step_offset=-7, symbols=1), ABSENT, ABSENT)
    layers = (
        layer_entry(0, "base", payloads[0]),
        layer_entry(1, "rest", payloads[1], needs=0b1, purpose=1),
        layer_entry(2, "machine", payloads[2], needs=0b11, purpose=2),
    )
    header = Header(100, 120, 3, 64, "none", b"8 bytes!", 3, layers)
    return header, tiles, payloads, {"ICCP": b"a colour profile", "EXIF": b""}


def small_file():
    return to_bytes(*small_parts())


def expected_payloads(reader):
    """Payloads of a reader in the form that `write` takes."""
    return {
        index: [
            reader.payload(index, tile) if entry.present else b""
            for tile, entry in enumerate(reader.tiles[index])
        ]
        for index in reader.header.present
    }


def rewritten(reader):
    """The file that our writer makes of all that a reader says."""
    return to_bytes(
        reader.header, reader.tiles, expected_payloads(reader), extra=reader.chunks,
        limits=reader.limits,
    )  # fmt: skip


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,7}", fullmatch=True).filter(lambda name: name != "all")
CHUNK_TYPES = st.text(string.ascii_uppercase + string.digits + "_", min_size=4, max_size=4).filter(
    lambda kind: kind not in ("HEAD", "DIRE", "LAYR", "DONE")
)


@st.composite
def parts(draw, flags=(0, 2)):
    """(header, tiles, payloads, metadata, extra) of any valid file with few small tiles."""
    modality = draw(st.integers(0, 2))
    tile_size = 64 * draw(st.integers(1, 4))
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    grid = tile_grid(width, height, tile_size)
    total = draw(st.integers(1, 5))
    names = draw(st.lists(NAMES, min_size=total, max_size=total, unique=True))
    present = sorted(draw(st.sets(st.integers(0, total - 1), min_size=1)))
    layers, tiles, payloads = [], {}, {}
    for index in present:
        columns, rows = grid if modality == 0 else (draw(st.integers(1, 3)), 2)
        blobs = draw(
            st.lists(
                st.none() | st.binary(max_size=20), min_size=columns * rows, max_size=columns * rows
            )
        )
        payloads[index] = [blob or b"" for blob in blobs]
        tiles[index] = tuple(
            ABSENT
            if blob is None
            else TileEntry.of(
                blob,
                step_offset=draw(st.integers(-128, 127)),
                symbols=draw(st.integers(0, 2**32 - 1)),
            )
            for blob in blobs
        )
        layers.append(
            LayerEntry(
                index,
                names[index],
                draw(st.integers(0, 255)),
                draw(st.integers(0, 2**index - 1)),
                draw(st.integers(0, 65535)),
                columns,
                rows,
                sum(map(len, payloads[index])),
                draw(st.integers(0, 65535)),
            )
        )
    header = Header(
        width,
        height,
        draw(st.sampled_from((1, 3))),
        tile_size,
        draw(st.sampled_from(("none", "photo-1.2", "фото"))),
        draw(st.binary(min_size=8, max_size=8)),
        total,
        tuple(layers),
        modality,
        draw(st.sampled_from((8, 16))),
        0,
        1 if modality == 0 else draw(st.integers(1, 2**32 - 1)),
    )
    kinds = draw(st.lists(CHUNK_TYPES, max_size=3, unique=True))
    metadata = {kind: draw(st.binary(max_size=10)) for kind in kinds[:1]}
    extra = [
        Chunk(kind, draw(st.sampled_from(flags)), draw(st.binary(max_size=10)))
        for kind in kinds[1:]
    ]
    return header, tiles, payloads, metadata, extra
