"""Make the vectors of the container: python formats/vectors/make.py [--check]

One function per vector; its name is the file's name and starts with the verdict, its docstring
is the comment. Payloads are dummies and the model is "none". Bad files are built from raw
tables, since the writer refuses to write them.
"""

from __future__ import annotations

import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from sccodec.container import ABSENT, Chunk, Header, LayerEntry, TileEntry, layout  # noqa: E402
from sccodec.container import to_bytes as written  # noqa: E402

VERDICTS = ("ok", "damaged", "unsupported", "not_our_file", "limit_exceeded")
MAKERS = []


def vector(maker):
    """Register a function that returns the bytes of one vector."""
    MAKERS.append(maker)
    return maker


# -- parts ---------------------------------------------------------------------------------


def payload(layer, tile):
    return bytes([0xA0 + layer, tile]) * (layer + 1)


def entry(index, name, payloads, *, needs=0, purpose=0, columns=1, rows=1, quality=65535):
    size = sum(map(len, payloads))
    return LayerEntry(index, name, purpose, needs, 256, columns, rows, size, quality)


def parts(width=96, height=64, columns=2, rows=1, **changes):
    """(header, tiles, payloads) of two layers, base and rest."""
    payloads = {i: [payload(i, t) for t in range(columns * rows)] for i in (0, 1)}
    tiles = {i: tuple(map(TileEntry.of, payloads[i])) for i in payloads}
    grid = {"columns": columns, "rows": rows}
    layers = (
        entry(0, "base", payloads[0], quality=3012, **grid),
        entry(1, "rest", payloads[1], needs=1, purpose=1, quality=3870, **grid),
    )
    header = Header(width, height, 3, 64, "none", bytes(range(8)), 2, layers)
    return replace(header, **changes), tiles, payloads


def packed_header(header, **changes):
    """Payload of HEAD without any check; changes are fields of the table."""
    values = {name: getattr(header, name) for name in layout.HEAD.names} | changes
    return layout.HEAD.pack(values) + b"".join(layout.LAYER.pack(vars(e)) for e in header.layers)


def packed_directory(tiles):
    return b"".join(layout.TILE_STRUCT.pack(*e) for i in sorted(tiles) for e in tiles[i])


def assembled(head, directory, layers, *, before=b"", between=b"", after=b"", total=None):
    """A file from raw payloads of HEAD, DIRE and LAYR, with chunks in other places."""
    data = layout.SIGNATURE + layout.pack_chunk("HEAD", 1, head) + before
    data += layout.pack_chunk("DIRE", 1, directory) + between
    data += b"".join(layout.pack_chunk("LAYR", 1, layer) for layer in layers) + after
    return data + layout.end_chunk(len(data) + layout.END_SIZE if total is None else total)


def layer_payloads(payloads):
    return [bytes([index]) + b"".join(tiles) for index, tiles in sorted(payloads.items())]


def odd(*, entries=None, directory=None, layers=None, head=None, **options):
    """The plain file with something replaced and all checksums right.

    entries changes fields of both layer entries; options go to `packed_header` if they are
    fields of it, else to `assembled`.
    """
    header, tiles, payloads = parts()
    if entries:
        header = replace(header, layers=tuple(replace(e, **entries) for e in header.layers))
    fields = {name: options.pop(name) for name in tuple(options) if name in layout.HEAD.names}
    return assembled(
        packed_header(header, **fields) if head is None else head,
        packed_directory(tiles) if directory is None else directory,
        layer_payloads(payloads) if layers is None else layers,
        **options,
    )


def odd_rest(**changes):
    """The plain file with fields of the second layer entry replaced."""
    header, _, _ = parts()
    layers = (header.layers[0], replace(header.layers[1], **changes))
    return odd(head=packed_header(replace(header, layers=layers)))


def odd_tile(**changes):
    """The plain file with fields of the first tile entry replaced."""
    _, tiles, _ = parts()
    first, second = tiles[0]
    return odd(directory=packed_directory(tiles | {0: (first._replace(**changes), second)}))


def plain():
    return written(*parts())


def place(data, kind, *, number=0):
    """Offset of the head of a chunk in a sound file."""
    at = len(layout.SIGNATURE)
    while True:
        found, _, length = layout.unpack_chunk_head(data[at : at + 9])
        if found == kind:
            if number == 0:
                return at
            number -= 1
        at += length + layout.CHUNK_OVERHEAD


def flipped(data, at, bit=0):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


# -- ok ------------------------------------------------------------------------------------


@vector
def ok_two_layers():
    """two layers of two tiles"""
    return plain()


@vector
def ok_smallest():
    """one pixel, one layer, one empty payload"""
    tiles = {0: (TileEntry.of(b""),)}
    header = Header(1, 1, 1, 64, "none", bytes(8), 1, (entry(0, "base", [b""]),))
    return written(header, tiles, {0: [b""]})


@vector
def ok_base_alone():
    """the first of two layers, as extraction leaves it"""
    header, tiles, payloads = parts()
    header = replace(header, layers=header.layers[:1])
    return written(header, {0: tiles[0]}, {0: payloads[0]})


@vector
def ok_rest_alone():
    """the second of two layers; sound, though it cannot be decoded alone"""
    header, tiles, payloads = parts()
    header = replace(header, layers=header.layers[1:])
    return written(header, {1: tiles[1]}, {1: payloads[1]})


@vector
def ok_metadata():
    """ICC profile, EXIF and XMP"""
    return written(*parts(), {"ICCP": b"profile", "EXIF": b"II*\0", "XMP_": b"<x/>"})


@vector
def ok_unknown_ancillary():
    """two ancillary chunks that no version knows, one of them safe to copy"""
    return written(*parts(), extra=[Chunk("NEW1", 0, b"not safe"), Chunk("NEW2", 2, b"safe")])


@vector
def ok_absent_tiles():
    """the second layer exists in a region of interest only, with a finer step"""
    header, tiles, payloads = parts()
    payloads[1][0] = b""
    tiles[1] = (ABSENT, tiles[1][1]._replace(step_offset=-12, symbols=0xDEADBEEF))
    layers = (header.layers[0], replace(header.layers[1], bytes=len(payloads[1][1])))
    return written(replace(header, layers=layers), tiles, payloads)


@vector
def ok_partial_tiles():
    """three by two tiles; the last column is one pixel wide, the last row two high"""
    return written(*parts(129, 66, 3, 2))


@vector
def ok_sixteen_bit_gray():
    """one channel of 16 bits"""
    return written(*parts(channels=1, bit_depth=16))


@vector
def ok_unknown_purpose():
    """a purpose without a word"""
    header, tiles, payloads = parts()
    layers = (header.layers[0], replace(header.layers[1], purpose=200))
    return written(replace(header, layers=layers), tiles, payloads)


@vector
def ok_unknown_step():
    """a step index far beyond those of any profile, which is for the profile to refuse"""
    header, tiles, payloads = parts()
    layers = (header.layers[0], replace(header.layers[1], step=65535))
    return written(replace(header, layers=layers), tiles, payloads)


@vector
def ok_32_layers():
    """as many layers as there are bits in needs"""
    payloads = {i: [bytes([i])] for i in range(32)}
    tiles = {i: (TileEntry.of(payloads[i][0]),) for i in payloads}
    layers = tuple(entry(i, f"l{i}", payloads[i], needs=2**i - 1) for i in payloads)
    return written(Header(8, 8, 3, 64, "none", bytes(8), 32, layers), tiles, payloads)


@vector
def ok_video():
    """a video has frames, and tile grids of its own"""
    return written(*parts(modality=1, frames=250, width=9, height=9))


@vector
def ok_tensor():
    """a tensor may have any number of channels"""
    return written(*parts(modality=2, channels=192, frames=7))


@vector
def ok_tensor_file():
    """feature tensors: elements along the width, longer than a side of a picture may be"""
    payloads = {0: [b"", payload(0, 1)]}
    tiles = {0: tuple(map(TileEntry.of, payloads[0]))}
    layers = (entry(0, "base", payloads[0], columns=2),)
    header = Header(100000, 1, 1, 65536, "tensor-1", bytes(range(8)), 1, layers, modality=2)
    return written(header, tiles, payloads, {"TENS": b"opaque here"})


# -- not our file --------------------------------------------------------------------------


@vector
def not_our_file_empty():
    """no bytes at all"""
    return b""


@vector
def not_our_file_png():
    """a PNG signature in front of our chunks"""
    return b"\x89PNG\r\n\x1a\n" + plain()[8:]


@vector
def not_our_file_chunk_first():
    """the signature is missing"""
    return plain()[8:]


# -- damaged: signature and chunks ---------------------------------------------------------


@vector
def damaged_line_ends():
    """CR LF became LF everywhere"""
    return plain().replace(b"\r\n", b"\n")


@vector
def damaged_seven_bits():
    """the eighth bit of every byte is gone"""
    return bytes(byte & 0x7F for byte in plain())


@vector
def damaged_signature_only():
    """the file ends behind the signature"""
    return plain()[:8]


@vector
def damaged_cut_in_header():
    """the file ends inside HEAD"""
    return plain()[:40]


@vector
def damaged_cut_in_directory():
    """the file ends inside DIRE"""
    return plain()[: place(plain(), "DIRE") + 20]


@vector
def damaged_cut_before_rest():
    """the file ends behind the base layer; readable if the user agrees"""
    return plain()[: place(plain(), "LAYR", number=1)]


@vector
def damaged_cut_in_end():
    """the last byte is missing"""
    return plain()[:-1]


@vector
def damaged_bytes_after_end():
    """a byte follows the end chunk"""
    return plain() + b"\0"


@vector
def damaged_header_bit():
    """one bit of HEAD is flipped"""
    return flipped(plain(), place(plain(), "HEAD") + 12)


@vector
def damaged_header_flags_bit():
    """one bit of HEAD's flags is flipped: the checksum covers them"""
    return flipped(plain(), place(plain(), "HEAD") + 4, 5)


@vector
def damaged_directory_bit():
    """one bit of DIRE is flipped"""
    return flipped(plain(), place(plain(), "DIRE") + 15)


@vector
def damaged_metadata_bit():
    """one bit of the ICC profile is flipped"""
    data = written(*parts(), {"ICCP": b"profile"})
    return flipped(data, place(data, "ICCP") + 10)


@vector
def damaged_payload_bit():
    """one bit of tile 1 of layer 1 is flipped; all other tiles still decode"""
    return flipped(plain(), place(plain(), "LAYR", number=1) + 14)


@vector
def damaged_layer_checksum():
    """one bit of a layer chunk's checksum is flipped, its payloads are sound"""
    return flipped(plain(), place(plain(), "LAYR", number=1) - 1)


@vector
def damaged_layer_type_bit():
    """LAYR became LAYS: the checksum tells it from a chunk of the future"""
    return flipped(plain(), place(plain(), "LAYR") + 3)


@vector
def damaged_chunk_type():
    """a chunk type in small letters"""
    return odd(before=layout.pack_chunk("iccp", 2, b""))


@vector
def damaged_header_missing():
    """DIRE is the first chunk"""
    data = plain()
    return data[:8] + data[place(data, "DIRE") :]


@vector
def damaged_header_twice():
    """a second HEAD behind the first"""
    return odd(before=layout.pack_chunk("HEAD", 1, packed_header(parts()[0])))


@vector
def damaged_directory_missing():
    """LAYR follows HEAD"""
    data = plain()
    return data[: place(data, "DIRE")] + data[place(data, "LAYR") :]


@vector
def damaged_metadata_twice():
    """two EXIF chunks"""
    return odd(before=layout.pack_chunk("EXIF", 2, b"") * 2)


@vector
def damaged_metadata_after_directory():
    """EXIF between DIRE and the first layer"""
    return odd(between=layout.pack_chunk("EXIF", 2, b"late"))


@vector
def damaged_layers_swapped():
    """the second layer stands first"""
    return odd(layers=layer_payloads(parts()[2])[::-1])


@vector
def damaged_layer_missing():
    """a layer of the header has no chunk"""
    return odd(layers=layer_payloads(parts()[2])[:1])


@vector
def damaged_layer_index():
    """a layer chunk of the right length says that it is another layer"""
    base, rest = layer_payloads(parts()[2])
    return odd(layers=[base, b"\0" + rest[1:]])


@vector
def damaged_end_missing():
    """there is no end chunk"""
    return plain()[: -layout.END_SIZE]


@vector
def damaged_end_length():
    """the end chunk tells of one byte more"""
    return odd(total=len(plain()) + 1)


# -- damaged: header and directory with right checksums ------------------------------------


@vector
def damaged_header_too_long():
    """a byte follows the last layer entry"""
    return odd(head=packed_header(parts()[0]) + b"\0")


@vector
def damaged_header_too_short():
    """HEAD ends inside the last layer entry"""
    return odd(head=packed_header(parts()[0])[:-1])


@vector
def damaged_header_empty():
    """HEAD has no payload"""
    return odd(head=b"")


@vector
def damaged_width_zero():
    """a canvas without a pixel"""
    return odd(width=0)


@vector
def damaged_picture_frames():
    """a picture of two frames"""
    return odd(frames=2)


@vector
def damaged_tile_size_zero():
    """tiles of no size"""
    return odd(tile_size=0)


@vector
def damaged_tile_size_odd():
    """a tile size that is no multiple of 64"""
    return odd(tile_size=65)


@vector
def damaged_tile_grid():
    """the layer's grid is not that of canvas and tile size"""
    return odd(tile_size=128)


@vector
def damaged_tiles_none():
    """a layer without tiles, in a video"""
    return odd(modality=1, entries={"tile_rows": 0})


@vector
def damaged_model_path():
    """a model id that climbs out of its folder"""
    return odd(model="../../etc/passwd")


@vector
def damaged_model_escape():
    """a model id that would colour a terminal"""
    return odd(model="x\x1b[31m")


@vector
def damaged_model_utf8():
    """a model id that is not UTF-8"""
    return odd(head=packed_header(parts()[0]).replace(b"none", b"n\xffne"))


@vector
def damaged_layers_zero():
    """no layer is present"""
    head = packed_header(replace(parts()[0], layers=()))
    return odd(head=head, directory=b"", layers=[])


@vector
def damaged_more_layers_than_stream():
    """two layers are present of a stream of one"""
    return odd(total_layers=1)


@vector
def damaged_layer_order():
    """layer indexes descend"""
    header = parts()[0]
    return odd(head=packed_header(replace(header, layers=header.layers[::-1])))


@vector
def damaged_layer_repeats():
    """both layers have index 1"""
    return odd(entries={"index": 1, "needs": 0})


@vector
def damaged_layer_names_repeat():
    """both layers have one name"""
    return odd(entries={"name": "base"})


@vector
def damaged_layer_name_number():
    """a name that reads as a number of layers"""
    return odd_rest(name="2")


@vector
def damaged_layer_name_empty():
    """a layer without a name"""
    return odd_rest(name="")


@vector
def damaged_layer_needs_itself():
    """a layer that must be decoded before itself"""
    return odd_rest(needs=0b10)


@vector
def damaged_layer_bytes():
    """the tiles of a layer do not add up to its bytes"""
    return odd_rest(bytes=9)


@vector
def damaged_directory_short():
    """DIRE lacks the last tile"""
    return odd(directory=packed_directory(parts()[1])[: -layout.TILE_STRUCT.size])


@vector
def damaged_tile_past_end():
    """a tile of 4 GiB in a small file"""
    return odd_tile(length=2**32 - 1)


@vector
def damaged_absent_tile_with_length():
    """an absent tile that has a length"""
    return odd_tile(flags=0)


@vector
def damaged_tile_checksum():
    """the directory's checksum of a payload is wrong, that of the chunk is right"""
    return odd_tile(crc32=zlib.crc32(b"another payload"))


# -- unsupported ---------------------------------------------------------------------------


@vector
def unsupported_version_2():
    """the next version, with a header that we cannot know"""
    return layout.SIGNATURE + layout.pack_chunk("HEAD", 1, b"\x02 something else")


@vector
def unsupported_version_0():
    """a version that never was"""
    return odd(version=0)


@vector
def unsupported_critical_chunk():
    """an unknown critical chunk before the directory"""
    return odd(before=layout.pack_chunk("CRYP", 1, b"key"))


@vector
def unsupported_critical_chunk_late():
    """an unknown critical chunk between two layers"""
    _, _, payloads = parts()
    base, rest = (layout.pack_chunk("LAYR", 1, raw) for raw in layer_payloads(payloads))
    new = layout.pack_chunk("CRYP", 1, b"key")
    return odd(layers=[], after=base + new + rest)


@vector
def unsupported_chunk_flags():
    """a flag bit without a meaning"""
    return odd(before=layout.pack_chunk("EXIF", 2 | 4, b""))


@vector
def unsupported_modality():
    """modality 3"""
    return odd(modality=3)


@vector
def unsupported_channels():
    """a picture of four channels"""
    return odd(channels=4)


@vector
def unsupported_bit_depth():
    """ten bits"""
    return odd(bit_depth=10)


@vector
def unsupported_colour():
    """a colour code without a meaning"""
    return odd(colour=1)


@vector
def unsupported_tile_flags():
    """a flag bit of a tile without a meaning"""
    return odd_tile(flags=0b11)


# -- limit exceeded ------------------------------------------------------------------------


@vector
def limit_exceeded_pixels():
    """40000 x 20000 pixels in two tiles"""
    return odd(width=40000, height=20000, tile_size=20032)


@vector
def limit_exceeded_dimension():
    """a row of 65536 pixels in two tiles"""
    return odd(width=65536, tile_size=32768)


@vector
def limit_exceeded_tensor_elements():
    """feature tensors of 2^28 + 1 elements"""
    return odd(modality=2, width=2**28 + 1, height=1)


@vector
def limit_exceeded_tensor_tile():
    """feature tensors in tiles of 2^24 + 64 elements"""
    return odd(modality=2, tile_size=2**24 + 64)


@vector
def limit_exceeded_layers():
    """a stream of 33 layers"""
    return odd(total_layers=33)


@vector
def limit_exceeded_layers_present():
    """255 layers are present"""
    return odd(present_layers=255)


@vector
def limit_exceeded_tiles():
    """a video of 1025 x 1024 tiles"""
    payloads = {0: []}
    layers = (entry(0, "base", payloads[0], columns=1025, rows=1024),)
    head = packed_header(replace(parts()[0], modality=1, total_layers=1, layers=layers))
    return odd(head=head, directory=b"", layers=layer_payloads(payloads))


@vector
def limit_exceeded_layer_bytes():
    """a layer longer than a chunk may be"""
    return odd_rest(bytes=2**63)


@vector
def limit_exceeded_chunk():
    """a chunk of 4 GiB"""
    return layout.SIGNATURE + struct.pack("<4sBI", b"HEAD", 1, 2**32 - 1)


@vector
def limit_exceeded_header():
    """a header of 65537 bytes"""
    return layout.SIGNATURE + struct.pack("<4sBI", b"HEAD", 1, 65537)


@vector
def limit_exceeded_metadata():
    """an XMP chunk one byte longer than all metadata may be"""
    data = plain()
    return data[: place(data, "DIRE")] + struct.pack("<4sBI", b"XMP_", 2, 2**26 + 1)


# -- files ---------------------------------------------------------------------------------


def vectors():
    """File name -> bytes of every vector."""
    files = {}
    for maker in MAKERS:
        verdict = next(word for word in VERDICTS if maker.__name__.startswith(word))
        text = f"expect: {verdict}\ncomment: {maker.__doc__}\n\n"
        files[f"{maker.__name__}.vector"] = text.encode() + maker()
    return files


def main(arguments):
    files = vectors()
    here = {path.name: path.read_bytes() for path in HERE.glob("*.vector")}
    if arguments == ["--check"]:
        differing = sorted(name for name in files | here if files.get(name) != here.get(name))
        print("\n".join(differing) or f"{len(files)} vectors are as made")
        return int(bool(differing))
    for name, data in files.items():
        (HERE / name).write_bytes(data)
    print(f"{len(files)} vectors written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
