"""Other libraries' doors to .scc files: `import sccodec.pillow`, `import sccodec.imageio`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sccodec.errors import CodecError


@contextmanager
def os_errors() -> Iterator[None]:
    """Turns CodecError into OSError, the one kind that users of these libraries expect."""
    try:
        yield
    except CodecError as error:
        words = f"{error} ({error.hint})" if error.hint else str(error)
        raise OSError(words) from error
