"""Still pictures: read finds the format by content, write by the name it is given."""

from sccodec.media.metadata import parse_selection, select_metadata
from sccodec.media.picture import Picture, from_array, to_pil
from sccodec.media.reading import DEFAULT_MAX_PIXELS, from_pil, read
from sccodec.media.writing import guess_format, supported_formats, write

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Picture",
    "from_array",
    "from_pil",
    "guess_format",
    "parse_selection",
    "read",
    "select_metadata",
    "supported_formats",
    "to_pil",
    "write",
]
