"""Pillow opens and saves .scc files: `import sccodec.pillow`, then Image.open and Image.save.

Opening reads header and directory; pixels are decoded when they are first needed. A draft or
a thumbnail of at most half the size needs the base layer only.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from sccodec import api
from sccodec.container import Reader, from_file
from sccodec.container.describe import describe
from sccodec.container.layout import PURPOSES, SIGNATURE
from sccodec.container.metadata import from_chunks
from sccodec.container.rules import NO_LIMIT, environment_limits
from sccodec.plugins import os_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sccodec.media.image import Picture

FORMAT, EXTENSION, MIME = "SCC", ".scc", "image/x-scc"
MODES = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA"}
EIGHT_BITS = tuple(MODES.values())
BASE = PURPOSES.index("base")
DRAFT = 2  # how many times smaller a draft must be before the base layer will do
OPTIONS = (
    *("profile", "rate", "quality", "max_bytes", "step", "tile", "roi", "metadata", "jobs"),
    "effort",
)


def register() -> None:
    """Makes Pillow know the format; a second call changes nothing."""
    Image.register_open(FORMAT, SccImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, EXTENSION)
    Image.register_mime(FORMAT, MIME)


def _accept(prefix: bytes) -> bool:
    # Not the whole signature: its end tells that a transfer in text mode has damaged the file.
    return prefix.startswith(SIGNATURE[:4])


class SccImageFile(ImageFile.ImageFile):
    """An .scc picture: mode L, LA, RGB, RGBA, or I;16 for gray of 16 bits.

    Colour or alpha of 16 bits, for which Pillow has no mode, is rounded to 8 as it is loaded;
    info["sccodec"]["bit_depth"] says what the file holds, and sccodec.decode gives it in full.
    info holds icc_profile, exif, xmp and dpi as for other formats, and under "sccodec" what
    sccodec.info() says of the file. OSError is raised for a file that cannot be opened.
    """

    format = FORMAT
    format_description = "sccodec layered picture"

    # Here and not in _open, since a pickled image comes back without it.
    _reader: Reader | None = None
    _layers: str | int = "all"

    def _open(self) -> None:
        with os_errors():
            limits = environment_limits()
            if Image.MAX_IMAGE_PIXELS is None:  # Pillow's word for a trusted file
                limits = replace(limits, max_pixels=NO_LIMIT)
            reader = from_file(
                self.fp,
                name=str(self.filename or "picture"),
                limits=limits,
                allow_partial=ImageFile.LOAD_TRUNCATED_IMAGES,
            )
        self._mode = _mode(reader)
        self._size = reader.header.width, reader.header.height
        self._reader, self._loading = reader, threading.Lock()
        self.info.update(_info(*from_chunks(reader.metadata)))
        self.info["sccodec"] = describe(reader)

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Decode the base layer only, if `size` is at most half as wide and half as high.

        The picture keeps its size and mode, so the box that is returned is all of it; None
        where a draft saves nothing. A later draft with a larger size takes it back.
        """
        if self._reader is None or size is None or self._im is not None:
            return None
        first, *others = self._reader.header.layers
        enough = others and first.purpose == BASE and not first.needs
        small = DRAFT * size[0] <= self.width and DRAFT * size[1] <= self.height
        self._layers = 1 if enough and small else "all"
        return (self.mode, (0, 0, self.width, self.height)) if self._layers == 1 else None

    def load(self):
        """Decode, unless that is done, and close a file that Pillow has opened."""
        if self._reader is not None:
            with self._loading:
                if self._im is None:
                    self._decode()
        elif self._im is None:
            raise ValueError("operation on closed image")
        return Image.Image.load(self)

    def _decode(self) -> None:
        from sccodec.media.image import to_pil

        if self.fp is None:
            raise ValueError("operation on closed image")
        partial = ImageFile.LOAD_TRUNCATED_IMAGES
        with os_errors():
            picture = api.File(self._reader, partial).picture(self._layers)
            self.im = to_pil(_narrowed(picture) if self.mode in EIGHT_BITS else picture).im
        self.readonly = 0
        if self._exclusive_fp:
            self.fp.close()
        self.fp = self._reader = None

    def verify(self) -> None:
        """Check every checksum without decoding; OSError names the first that is wrong."""
        if self._reader is not None and self.fp is not None:
            with os_errors():
                problems = self._reader.check()
            if problems:
                raise OSError(problems[0].message)
        super().verify()


def _mode(reader: Reader) -> str:
    header, alpha = reader.header, "ALPH" in reader.metadata
    if header.kind != "picture":
        raise OSError(f"{reader.name}: not a still picture")
    if header.bit_depth == 16 and header.channels == 1 and not alpha:
        return "I;16"
    return MODES[header.channels, alpha]


def _narrowed(picture: Picture) -> Picture:
    """The picture in 8 bits, nearest samples."""
    if picture.bit_depth == 8:
        return picture

    def eight(samples: np.ndarray) -> np.ndarray:
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)

    alpha = None if picture.alpha is None else eight(picture.alpha)
    return replace(picture, pixels=eight(picture.pixels), alpha=alpha)


def _info(metadata: Mapping[str, bytes], dpi: tuple[float, float] | None) -> dict:
    """Metadata under the names, and in the form, that Pillow's own formats use."""
    info = {}
    if "icc" in metadata:
        info["icc_profile"] = metadata["icc"]
    if "exif" in metadata:
        info["exif"] = b"Exif\0\0" + metadata["exif"]
    if "xmp" in metadata:
        info["xmp"] = metadata["xmp"]
    if dpi:
        info["dpi"] = dpi
    return info


# -- saving --------------------------------------------------------------------------------


def _save(image: Image.Image, fp: BinaryIO, _filename: str | bytes) -> None:
    """Image.save(name, **options): the options of sccodec.encode, and metadata.

    exif, icc_profile, xmp and dpi count more than those in image.info; an empty one drops it.
    """
    given = image.encoderinfo
    options = {name: given[name] for name in OPTIONS if name in given}
    with os_errors():
        data = api.encode(_picture(image, given), **options)
    fp.write(data)


def _picture(image: Image.Image, given: Mapping) -> Picture:
    """The picture upright, with its own metadata or what was given instead."""
    from sccodec.media.image import from_pil

    if given.get("dpi") == (0, 0):  # as Pillow has it of files that do not say
        given = {**given, "dpi": None}
    view = object.__new__(type(image))  # the caller's is left as it is; pixels are shared
    vars(view).update(vars(image))
    view.info = _told(image.info, given)
    picture = from_pil(view, loaded=True)
    names = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
    metadata = {
        kind: payload
        for kind, payload in picture.metadata.items()
        if given.get(names[kind], payload)
    }
    dpi = picture.dpi if given.get("dpi", True) else None
    if given.get("dpi") and dpi is None:
        raise OSError(f"a resolution of {given['dpi']!r} makes no sense")
    return replace(picture, metadata=metadata, dpi=dpi)


def _told(info: Mapping, given: Mapping) -> dict:
    """What is known of the pixels as they lie, before they are turned and converted; what was
    given counts more."""
    told = dict(info)
    if "exif" in given:  # it says which side is up
        exif = given["exif"] or b""
        told["exif"] = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    return told | {n: given[n] for n in ("icc_profile", "xmp", "dpi") if given.get(n)}
