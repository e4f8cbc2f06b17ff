"""imageio reads and writes .scc files: `import sccodec.imageio`, then imread, imwrite, ..."""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType

import numpy as np
from imageio.config import FileExtension, PluginConfig, known_extensions, known_plugins
from imageio.core.request import RETURN_BYTES, InitializationError, IOMode, Request
from imageio.core.v3_plugin_api import ImageProperties, PluginV3

from sccodec import api
from sccodec.container import is_url
from sccodec.container.describe import describe
from sccodec.container.layout import SIGNATURE
from sccodec.container.metadata import from_chunks
from sccodec.errors import NotOurFile, Unsupported
from sccodec.media.metadata import EXIF_PREFIX
from sccodec.media.reading import upright
from sccodec.plugins import os_errors

NAME, EXTENSION = "sccodec", ".scc"

Index = int | EllipsisType | None


def register() -> None:
    """Makes imageio know the plugin and the extension; a second call changes nothing."""
    plugin = PluginConfig(
        name=NAME, class_name=SccPlugin.__name__, module_name=__name__, install_name=NAME
    )
    # In front, since some of the others take whatever they are given for theirs.
    others = {name: other for name, other in known_plugins.items() if name != NAME}
    known_plugins.clear()
    known_plugins.update({NAME: plugin} | others)
    known_extensions[EXTENSION] = [
        FileExtension(name="sccodec layered picture", extension=EXTENSION, priority=[NAME])
    ]


class SccPlugin(PluginV3):
    """One .scc picture as an ndimage.

    An http(s) address that ends in .scc is read by ranges: only what is needed is fetched.
    Raises OSError for a file that cannot be read and for options that make no sense.
    """

    def __init__(self, request: Request):
        super().__init__(request)
        self._picture: api.File | None = None
        if request.mode.io_mode == IOMode.read:
            self._picture = self._open()
        elif request.extension != EXTENSION:
            raise InitializationError(f"sccodec writes {EXTENSION} files only")
        self._written = False

    def _open(self) -> api.File:
        if is_url(self.request.filename) and self.request.extension == EXTENSION:
            source = self.request.filename
        else:
            source = self.request.get_file()
            if source.seekable():
                source.seek(0)  # another plugin may have looked at it before
            elif self.request.extension != EXTENSION and not _may_be_ours(source):
                raise InitializationError("not an .scc file")
        with os_errors():
            try:
                file = api.open(source)
            except NotOurFile as error:
                raise InitializationError(str(error)) from error
            if file.header.kind != "picture":
                file.close()
                raise Unsupported(f"{file.reader.name}: not a still picture")
            return file

    def read(
        self,
        *,
        index: Index = None,
        layers: str | int | list[str] = "all",
        region: tuple[int, int, int, int] | None = None,
        jobs: int = 1,
    ) -> np.ndarray:
        """(H, W) or (H, W, 2..4), uint8 or uint16; with index=... one axis more, of length 1.

        layers, region (x, y, w, h in pixels) and jobs are those of sccodec.decode.
        """
        batch = _is_batch(index)
        with os_errors():
            array = self._picture.decode(layers, region, jobs=jobs)
        return array[None] if batch else array

    def iter(self, **options) -> Iterator[np.ndarray]:
        """The picture, once; options are those of `read`."""
        yield self.read(**options)

    def write(
        self,
        ndimage: np.ndarray | list[np.ndarray],
        *,
        icc_profile: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | str | None = None,
        dpi: tuple[float, float] | None = None,
        is_batch: bool | None = None,
        **options,
    ) -> bytes | None:
        """Write one picture of the shapes that `read` returns; bytes for the target "<bytes>".

        Metadata is taken under the names, and in the form, in which `metadata` gives it; pixels
        are stored upright, as the orientation in `exif` says. The other options are those of
        sccodec.encode: rate, quality, max_bytes, roi, ...
        """
        if isinstance(ndimage, list | tuple) or np.ndim(ndimage) == 4:
            if len(ndimage) != 1:
                raise ValueError(f"an .scc file holds one picture, not {len(ndimage)}")
            (ndimage,) = ndimage
        if self._written:
            raise ValueError("an .scc file holds one picture, and that is written")
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        given = {"icc": icc_profile, "exif": (exif or b"").removeprefix(EXIF_PREFIX), "xmp": xmp}
        with os_errors():
            picture = upright(np.asarray(ndimage), {k: v for k, v in given.items() if v}, dpi)
            data = api.encode(picture, **options)
        self.request.get_file().write(data)
        self._written = True
        return data if self.request.raw_uri == RETURN_BYTES else None

    def properties(self, index: Index = None) -> ImageProperties:
        """Shape and type of what `read` returns, without decoding."""
        batch = _is_batch(index)
        header = self._picture.header
        samples = header.channels + ("ALPH" in self._picture.reader.metadata)
        shape = (header.height, header.width, *([samples] if samples > 1 else []))
        return ImageProperties(
            shape=(1, *shape) if batch else shape,
            dtype=np.dtype(f"uint{header.bit_depth}"),
            n_images=1 if batch else None,
            is_batch=batch,
        )

    def metadata(self, index: Index = None, exclude_applied: bool = True) -> dict:
        """What sccodec.info() says, and icc_profile, exif, xmp and dpi where there are any."""
        _is_batch(index)
        reader = self._picture.reader
        found, dpi = from_chunks(reader.metadata)
        if "icc" in found:
            found["icc_profile"] = found.pop("icc")
        return describe(reader) | found | ({"dpi": dpi} if dpi else {})

    def close(self) -> None:
        if self._picture is not None:
            self._picture.close()
        super().close()


def _may_be_ours(stream) -> bool:
    """Whether a pipe begins as an .scc file; nothing is taken from it, as others may want it."""
    start = stream.peek(len(SIGNATURE))[: len(SIGNATURE)] if hasattr(stream, "peek") else b""
    return bool(start) and SIGNATURE.startswith(start)


def _is_batch(index: Index) -> bool:
    """Whether `index` asks for an axis of pictures; ValueError for a picture that is not there."""
    if index is Ellipsis:
        return True
    if index not in (None, 0):
        raise ValueError(f"no picture {index}; an .scc file holds one, with index 0")
    return False
