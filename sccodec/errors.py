"""The errors that a caller may see, as one family.

CodecError
├── BadRequest      the caller asked for something that cannot be (exit 1)
├── NotOurFile      the first bytes are not those of an .scc file or a known picture (exit 2)
├── Damaged         a checksum, a length or an order is wrong (exit 2)
├── Mismatch        whole bytes that decode otherwise here than where they were made (exit 3)
├── Unsupported     well formed, but newer than this program or of an unknown kind (exit 3)
├── WrongModel      the file names a model that is not installed (exit 3)
└── LimitExceeded   the file asks for more than the limits allow (exit 4)

Every message names what the program knows: file, layer, tile, byte offset. What others have named
goes through `shown` before it reaches a terminal.
"""

from __future__ import annotations

__all__ = [
    "SENSELESS_JSON",
    "BadRequest",
    "CodecError",
    "Damaged",
    "LimitExceeded",
    "Mismatch",
    "NotOurFile",
    "Unsupported",
    "WrongModel",
    "shown",
]


class CodecError(Exception):
    """Any failure that the codec foresees; `hint` says what to do about it, if anything.

    Lower case, no full stop: the command line prints ``sccodec: error: <message>``
    and, if there is a cure, ``sccodec: hint: <hint>``.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class BadRequest(CodecError):
    """The arguments make no sense for this file or this picture."""

    exit_code = 1


class NotOurFile(CodecError):
    """The first bytes do not belong to any format that we read."""

    exit_code = 2


class Damaged(CodecError):
    """Bytes are missing or wrong."""

    exit_code = 2


class Mismatch(CodecError):
    """Bytes are whole, but decode to other symbols than were written.

    Either this machine computes differently, or the program that wrote the file was at fault.
    """

    exit_code = 3


class Unsupported(CodecError):
    """A valid file that needs something this version does not have."""

    exit_code = 3


class WrongModel(CodecError):
    """The model that the file was written with is not here."""

    exit_code = 3


class LimitExceeded(CodecError):
    """Reading on would pass a limit; nothing was allocated."""

    exit_code = 4


# What code that expects a certain JSON raises of any other.
SENSELESS_JSON = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def shown(text: str) -> str:
    """One line that is safe on a terminal, whatever a file or tensor is called: `\\n` for a line
    feed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
