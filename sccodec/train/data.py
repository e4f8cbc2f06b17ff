"""Training pictures: tar files of crops -> one uint8 cache -> random batches.

Decoding a crop costs milliseconds and a training step wants several, so each tar is
decoded once; the cache is two plain .npy files that are mapped, not loaded.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from sccodec.container.writer import whole_file
from sccodec.errors import BadRequest
from sccodec.media.modes import to_samples

PICTURES = (".jp2", ".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class Crops:
    """Pictures of several sizes in one flat array.

    pixels: (total bytes,) uint8, RGB interleaved; index: (N, 3) int64 = offset, height, width.
    """

    pixels: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, n: int) -> np.ndarray:
        """Picture n as (H, W, 3) uint8."""
        offset, height, width = (int(v) for v in self.index[n])
        return self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def at_least(self, size: int) -> np.ndarray:
        """Numbers of pictures of at least `size` pixels a side; BadRequest if there are none."""
        found = np.flatnonzero((self.index[:, 1:] >= size).all(1))
        if not len(found):
            raise BadRequest(f"no training picture has {size} pixels a side")
        return found

    def cut(self, n: int, multiple: int = 64) -> np.ndarray:
        """Picture n as (H, W, 3) uint8, sides cut to multiples of `multiple`."""
        picture = self[n]
        height, width = (side // multiple * multiple for side in picture.shape[:2])
        return np.array(picture[:height, :width])

    def centred(self, n: int, multiple: int = 64) -> torch.Tensor:
        """The same as (1, 3, H, W) float32 in -128..127."""
        return torch.from_numpy(self.cut(n, multiple)).permute(2, 0, 1)[None].float() - 128


def _members(path: Path):
    """(name, bytes) of every picture in a tar file or a folder."""
    if path.is_dir():
        for file in _files(path):
            yield str(file), file.read_bytes()
        return
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and Path(member.name).suffix.lower() in PICTURES:
                    handle = tar.extractfile(member)
                    assert handle is not None
                    yield f"{path}: {member.name}", handle.read()
            _check_end(tar)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        detail = str(error).partition("\n")[0]
        raise BadRequest(f"{path}: not a whole tar file: {detail}") from None


def _check_end(tar: tarfile.TarFile) -> None:
    """Raises ReadError for a file that ends without the block of zeros that ends a tar:
    `tarfile` takes one that is cut at or in a header for a whole one."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends before its end mark")


def _state(path: Path) -> object:
    """What changes when the pictures of a tar file or a folder do."""
    if not path.is_dir():
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns  # a tar is a multiple of 10,240 bytes: sizes recur
    found = ((file.relative_to(path).as_posix(), file.stat()) for file in _files(path))
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in PICTURES]


def load(sources: list[str | Path], cache: str | Path, smallest: int = 64) -> Crops:
    """Decode tars or folders of pictures once and map the result.

    Pictures with a side under `smallest` pixels are left out. The cache is keyed by the name,
    size and date of a tar, and by those of a folder's pictures, so that what has changed is decoded
    again.
    """
    paths = [Path(s) for s in sources]
    missing = [str(p) for p in paths if not p.exists()]
    if missing:
        raise BadRequest(f"training data not found: {', '.join(missing)}")
    key = hashlib.sha256(repr([smallest]).encode())
    for p in paths:
        key.update(f"{p.name} {_state(p)}".encode())
    folder = Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / key.hexdigest()[:16]
    pixel_file, index_file = stem.with_suffix(".pixels.npy"), stem.with_suffix(".index.npy")
    if not index_file.exists():
        _decode(paths, pixel_file, index_file, smallest)
    pixels = np.load(pixel_file, allow_pickle=False, mmap_mode="r")
    return Crops(pixels, np.load(index_file, allow_pickle=False))


def _decode(paths: list[Path], pixel_file: Path, index_file: Path, smallest: int) -> None:
    parts, index, offset = [], [], 0
    for path in paths:
        for name, raw in _members(path):
            picture = _pixels(raw, name)
            if min(picture.shape[:2]) < smallest:
                continue
            index.append((offset, *picture.shape[:2]))
            parts.append(picture.reshape(-1))
            offset += parts[-1].size
    if not parts:
        where = ", ".join(map(str, paths)) or "no files: the recipe names none"
        raise BadRequest(f"no pictures of at least {smallest} pixels in {where}")
    # The index is written last: it says that the pixels are whole. Another run may map the pixels
    # that lie there, so they are replaced, never written over.
    with whole_file(pixel_file, force=True) as file:
        np.save(file, np.concatenate(parts))
    with whole_file(index_file, force=True) as file:
        np.save(file, np.array(index, np.int64))


def _pixels(raw: bytes, name: str) -> np.ndarray:
    """(H, W, 3) uint8; BadRequest, with the name, for what is no picture of 8 or 16 bits."""
    try:
        image = Image.open(io.BytesIO(raw))
        if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
            return np.asarray(image.convert("RGB"))
        samples, _ = to_samples(image)  # Pillow would cut 16 bits at 255
        return np.dstack(3 * [(samples >> 8).astype(np.uint8)])
    except MemoryError:
        raise
    except Exception as error:  # Pillow has a dozen kinds
        detail = "not a picture" if isinstance(error, UnidentifiedImageError) else error
        raise BadRequest(f"{name}: {detail}") from None


class Batches:
    """Random crops with flips, on any device; the whole set lives in that device's memory.

    `seed` fixes the sequence; a resumed run passes another seed and so sees other crops.
    """

    def __init__(self, crops: Crops, batch: int, size: int, device: str, seed: int):
        self.index = crops.index[crops.at_least(size)]
        self.batch, self.size, self.device = batch, size, device
        self.random = np.random.default_rng(seed)
        self.on_gpu = device != "cpu"
        self.pixels = torch.from_numpy(np.array(crops.pixels)).to(device) if self.on_gpu else None
        self.host = crops.pixels

    def __iter__(self):
        return self

    def __next__(self) -> torch.Tensor:
        """(batch, 3, size, size) float32 in 0..255."""
        size, draw = self.size, self.random
        picks = self.index[draw.integers(len(self.index), size=self.batch)]
        top = draw.integers(picks[:, 1] - size + 1)
        left = draw.integers(picks[:, 2] - size + 1)
        if self.on_gpu:
            # Not blocking: the device is steps behind, and need not be waited for.
            start = torch.from_numpy(picks[:, 0] + 3 * (top * picks[:, 2] + left))
            start = start.to(self.device, non_blocking=True)
            stride = torch.from_numpy(3 * picks[:, 2]).to(self.device, non_blocking=True)
            row = torch.arange(size, device=self.device)
            column = torch.arange(3 * size, device=self.device)
            at = start[:, None, None] + row[None, :, None] * stride[:, None, None] + column
            x = self.pixels[at].view(self.batch, size, size, 3)
        else:
            x = torch.from_numpy(
                np.stack(
                    [
                        self.host[o : o + h * w * 3].reshape(h, w, 3)[t : t + size, s : s + size]
                        for (o, h, w), t, s in zip(picks, top, left, strict=True)
                    ]
                )
            )
        # One flip per batch and axis costs nothing and doubles the data per axis.
        flips = [axis for axis in (1, 2) if draw.random() < 0.5]
        if flips:
            x = x.flip(flips)
        if draw.random() < 0.5:
            x = x.transpose(1, 2)
        return x.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
