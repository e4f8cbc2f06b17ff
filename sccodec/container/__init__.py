"""PAYLOADS <-> BYTES: the .scc file, with the standard library only.

layout.py   what lies where
rules.py    which values are allowed, and the limits
reader.py   read parts through read_at(offset, length)
remote.py   the same over HTTP, in few requests
writer.py   write all or nothing
extract.py  take layers out, put them back
"""

from sccodec.container.extract import extract, fit, join, layer_selection, split
from sccodec.container.layout import (
    ABSENT,
    QUALITY_UNKNOWN,
    Chunk,
    Header,
    LayerEntry,
    Limits,
    TileEntry,
    tile_grid,
)
from sccodec.container.reader import (
    Problem,
    Range,
    Reader,
    from_bytes,
    from_file,
    from_stream,
    open_path,
)
from sccodec.container.remote import is_url, open_url, refuse_secret
from sccodec.container.writer import to_bytes, whole_file, write

__all__ = [
    "ABSENT",
    "QUALITY_UNKNOWN",
    "Chunk",
    "Header",
    "LayerEntry",
    "Limits",
    "Problem",
    "Range",
    "Reader",
    "TileEntry",
    "extract",
    "fit",
    "from_bytes",
    "from_file",
    "from_stream",
    "is_url",
    "join",
    "layer_selection",
    "open_path",
    "open_url",
    "refuse_secret",
    "split",
    "tile_grid",
    "to_bytes",
    "whole_file",
    "write",
]
