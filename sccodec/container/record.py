"""One field table that packs and unpacks a structure, so that the two cannot drift apart."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from sccodec.errors import BadRequest, Damaged


class Record:
    """One structure: (field, kind) in file order; kind is a struct letter or "text".

    A text is one byte of length and so many bytes of UTF-8.
    """

    def __init__(self, title: str, *fields: tuple[str, str]):
        self.title = title
        self.fields = fields
        self.names = tuple(name for name, _ in fields)

    @property
    def size(self) -> int:
        """Bytes of a structure without texts."""
        return struct.calcsize("<" + "".join(kind for _, kind in self.fields))

    def pack(self, values: Mapping[str, object]) -> bytes:
        """Bytes of the structure; BadRequest names the field that has no room for its value."""
        pieces = []
        for name, kind in self.fields:
            value = values[name]
            try:
                if kind == "text":
                    text = value.encode()
                    pieces.append(struct.pack("<B", len(text)) + text)
                else:
                    pieces.append(struct.pack("<" + kind, value))
            except (struct.error, UnicodeError) as error:
                raise BadRequest(f"{self.title}: {name} cannot hold {value!r}") from error
        return b"".join(pieces)

    def unpack(self, raw: bytes, at: int) -> tuple[dict[str, object], int]:
        """Field values from `raw` at offset `at`, and the offset after them."""
        values: dict[str, object] = {}
        for name, kind in self.fields:
            try:
                if kind == "text":
                    length = raw[at]
                    kind = f"{length}s"
                    text = struct.unpack_from("<" + kind, raw, at + 1)[0]
                    values[name] = text.decode()
                    at += 1 + length
                else:
                    values[name] = struct.unpack_from("<" + kind, raw, at)[0]
                    at += struct.calcsize("<" + kind)
            except (struct.error, IndexError) as error:
                raise Damaged(f"{self.title} ends inside {name}") from error
            except UnicodeDecodeError as error:
                raise Damaged(f"{self.title}: {name} is not UTF-8") from error
        return values, at
