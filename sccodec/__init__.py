"""sccodec: a scalable learned codec. One layered file; decode, strip, join or crop its layers.

Encoding and decoding run on NumPy, constriction and ONNX Runtime, loaded when first needed:
importing sccodec, and whatever only moves layers about, loads the standard library alone.
"""

from sccodec.api import File, decode, encode, extract, info, join, open
from sccodec.errors import (
    BadRequest,
    CodecError,
    Damaged,
    LimitExceeded,
    Mismatch,
    NotOurFile,
    Unsupported,
    WrongModel,
)

__version__ = "0.1.0"
__all__ = [
    "BadRequest",
    "CodecError",
    "Damaged",
    "File",
    "LimitExceeded",
    "Mismatch",
    "NotOurFile",
    "Unsupported",
    "WrongModel",
    "decode",
    "encode",
    "extract",
    "info",
    "join",
    "open",
]
