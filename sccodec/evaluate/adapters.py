"""The codecs that are compared, each behind the same two functions, with the options they get."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from sccodec.errors import BadRequest, CodecError, WrongModel


@dataclass(frozen=True)
class Adapter:
    """One codec as it is measured; `settings` go from small to large files."""

    name: str
    library: str  # what is imported
    suffix: str
    unit: str  # what a setting is
    settings: tuple[float, ...]
    encoder: Callable[[np.ndarray, float, int], bytes]
    decoder: Callable[[bytes, int], np.ndarray]
    about: str  # the options, for the report
    build: Callable[[], str]  # versions of libraries and model
    by_step: bool = False  # of sccodec's own: settings are step indexes, not rates
    inside: Callable[[], bool] = lambda: True  # whether the library here was built with it
    threads_count: bool = False  # whether the bytes of a file depend on the number of threads

    def encode(self, pixels: np.ndarray, setting: float, threads: int) -> bytes:
        """Pixels (H, W, 3) uint8 -> the bytes of a whole file. BadRequest if the codec refuses."""
        with self._foreign_errors():
            return self.encoder(pixels, setting, threads)

    def decode(self, data: bytes, threads: int) -> np.ndarray:
        """The bytes of a file -> pixels of the same shape. BadRequest if the codec refuses."""
        with self._foreign_errors():
            return self.decoder(data, threads)

    @contextmanager
    def _foreign_errors(self) -> Iterator[None]:
        """Every library has errors of its own; a reader of our messages must know one family."""
        try:
            yield
        except (CodecError, MemoryError):
            raise
        except Exception as error:
            raise BadRequest(f"{self.name} fails: {type(error).__name__}: {error}") from error

    @property
    def middle(self) -> float:
        """The setting that stands for the codec where one must."""
        return self.settings[len(self.settings) // 2]

    @property
    def lacking(self) -> str:
        """Why the codec cannot run here; empty if it can."""
        try:
            importlib.import_module(self.library)
        except ImportError:
            return f"{self.library} is not installed"
        return "" if self.inside() else f"this build of {self.library} lacks it"

    @property
    def version(self) -> str:
        """All that must be equal for a figure to come out the same again."""
        return self.build()


# -- the library's own ------------------------------------------------------------------------


def _scc_encode(
    model: str, layers: list[str], by_step: bool, pixels: np.ndarray, setting: float, threads: int
) -> bytes:
    import sccodec

    asked = {"step": round(setting)} if by_step else {"rate": setting}
    data = sccodec.encode(pixels, profile=model, jobs=threads, **asked)
    return sccodec.extract(data, layers) if layers else data


def _scc_decode(data: bytes, threads: int) -> np.ndarray:
    import sccodec

    return sccodec.decode(data, jobs=threads)


def up_to(model, layer: int) -> list[str]:
    """Names of the layers that decoding this one takes, lowest first."""
    return [model.layers[n].name for n in (*model.layers[layer].needs, layer)]


def scc(name: str, settings: tuple[float, ...], by_step: bool = False) -> Adapter:
    """`scc`, `scc:LAYER`, `scc@MODEL` or `scc:LAYER@MODEL`; every file is encoded whole.

    Settings are bits per pixel of the whole file, or step indexes. A layer's file is what
    `extract` leaves of the whole file of that setting, lower layers included.
    Raises BadRequest for a layer that the model lacks, WrongModel for a model that is not here.
    """
    from sccodec import __version__
    from sccodec.profiles.registry import find

    head, _, model_name = name.partition("@")
    layer = head.partition(":")[2]
    try:
        model = find(model_name or "photo")
    except WrongModel as error:
        raise BadRequest(f"codec {name}: {error}", hint="sccodec models lists them") from None
    names = [plan.name for plan in model.layers]
    if ":" in head and layer not in names:
        raise BadRequest(f"codec {name}: model {model.id} has layers {', '.join(names)}")
    layers = up_to(model, names.index(layer)) if layer else []
    what = f"the file extracted down to its {layer}" if layer else "the whole file"
    asked = "at a step" if by_step else "asked for with --rate; encoding searches the step"
    return Adapter(
        name,
        "sccodec",
        ".scc",
        "step index" if by_step else "bits per pixel of the whole file",
        settings,
        partial(_scc_encode, model.id, layers, by_step),
        _scc_decode,
        f"{what}, {asked}",
        lambda: f"sccodec {__version__}, {model.id} {model.digest[:16]}" + ", by step" * by_step,
        by_step,
    )


def scc_by_step(name: str) -> Adapter:
    """A whole-file adapter of `scc` or `scc@MODEL` at nine step indexes over the model's range."""
    from sccodec.profiles.registry import find

    if name != "scc" and not name.startswith("scc@"):
        raise BadRequest(f"{name} is no whole .scc file", hint="scc and scc@MODEL are")
    model = find(name.partition("@")[2] or "photo")
    finest, coarsest = model.about["steps"]
    return scc(name, tuple(coarsest + (finest - coarsest) * n / 8 for n in range(9)), True)


# -- others' ----------------------------------------------------------------------------------


def _save(
    kind: str, options: Callable[[float], dict], pixels: np.ndarray, setting: float, threads: int
):
    from PIL import Image

    out = io.BytesIO()
    more = {"max_threads": threads} if kind == "AVIF" else {}  # else all cores, and other bytes
    Image.fromarray(pixels).save(out, kind, **options(setting), **more)
    return out.getvalue()


def _open(data: bytes, _) -> np.ndarray:
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # we wrote it ourselves
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _pillow(feature: str) -> str:
    """Pillow's version and that of the library inside it."""
    import PIL
    from PIL import features

    return f"Pillow {PIL.__version__}, {feature} {features.version(feature)}"


def _htj2k_encode(pixels: np.ndarray, setting: float, _) -> bytes:
    import imagecodecs

    return imagecodecs.htj2k_encode(pixels, level=setting, reversible=False)


def _htj2k_decode(data: bytes, _) -> np.ndarray:
    """By OpenJPEG: imagecodecs' own decoder lets samples beyond 0..255 wrap around."""
    import imagecodecs

    return imagecodecs.jpeg2k_decode(data)


def _jxl_encode(pixels: np.ndarray, setting: float, threads: int) -> bytes:
    import imagecodecs

    return imagecodecs.jpegxl_encode(pixels, distance=setting, effort=7, numthreads=threads)


def _jxl_decode(data: bytes, threads: int) -> np.ndarray:
    import imagecodecs

    return imagecodecs.jpegxl_decode(data, numthreads=threads)


def _library_inside(name: str) -> str:
    """imagecodecs' version and that of the library inside it."""
    import imagecodecs

    inside = [part for part in imagecodecs.version().split(", ") if part.startswith(name)]
    return ", ".join([f"imagecodecs {imagecodecs.__version__}", *inside])


def _hevc_encode(pixels: np.ndarray, setting: float, threads: int) -> bytes:
    import av

    pools = f"pools={threads}:frame-threads=1"
    out = io.BytesIO()
    with av.open(out, "w", format="hevc") as file:
        stream = file.add_stream("libx265", rate=25)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv444p"
        stream.options = {
            "preset": "medium",
            "tune": "psnr",
            "x265-params": f"qp={round(setting)}:keyint=1:info=0:log-level=none:{pools}",
        }
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        for packet in (*stream.encode(frame), *stream.encode()):
            file.mux(packet)
    return out.getvalue()


def _hevc_decode(data: bytes, threads: int) -> np.ndarray:
    import av

    with av.open(io.BytesIO(data), format="hevc") as file:
        file.streams.video[0].thread_count = threads
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def _pillow_has(feature: str) -> bool:
    from PIL import features

    return bool(features.check(feature))


def _imagecodecs_has(function: str) -> bool:
    import imagecodecs

    return hasattr(imagecodecs, function)


def _pyav() -> str:
    import av

    inside = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__}, libavcodec {inside}"


def _pillow_codec(name, kind, feature, suffix, unit, settings, options, about) -> Adapter:
    return Adapter(
        name,
        "PIL",
        suffix,
        unit,
        settings,
        partial(_save, kind, options),
        _open,
        about,
        partial(_pillow, feature),
        inside=partial(_pillow_has, feature),
        threads_count=kind == "AVIF",
    )


CLASSICAL = {
    adapter.name: adapter
    for adapter in (
        _pillow_codec(
            "jpeg",
            "JPEG",
            "jpg",
            ".jpg",
            "quality",
            (5, 10, 20, 40, 65, 85),
            lambda q: {"quality": round(q), "optimize": True},
            "Pillow: 4:2:0, optimised Huffman tables",
        ),
        _pillow_codec(
            "webp",
            "WEBP",
            "webp",
            ".webp",
            "quality",
            (1, 15, 40, 65, 82, 92),
            lambda q: {"quality": round(q), "method": 6},
            "Pillow: lossy (4:2:0), method 6",
        ),
        _pillow_codec(
            "avif",
            "AVIF",
            "avif",
            ".avif",
            "quality",
            (8, 20, 35, 50, 65, 80),
            lambda q: {"quality": round(q), "subsampling": "4:4:4", "speed": 6},
            "Pillow: 4:4:4, speed 6",
        ),
        _pillow_codec(
            "jpeg2000",
            "JPEG2000",
            "jpg_2000",
            ".jp2",
            "bits per pixel",
            (0.1, 0.2, 0.4, 0.75, 1.2, 2.0),
            lambda bpp: {
                "quality_mode": "rates",
                "quality_layers": [24 / bpp],
                "irreversible": True,
                "mct": 1,
            },
            "Pillow, OpenJPEG: irreversible 9/7 wavelet, one quality layer",
        ),
        Adapter(
            "htj2k",
            "imagecodecs",
            ".j2c",
            "step",
            (0.4, 0.2, 0.1, 0.055, 0.03, 0.015),
            _htj2k_encode,
            _htj2k_decode,
            "imagecodecs, OpenJPH: irreversible 9/7 wavelet; decoded by OpenJPEG",
            partial(_library_inside, "openjph"),
            inside=partial(_imagecodecs_has, "htj2k_encode"),
        ),
        Adapter(
            "jxl",
            "imagecodecs",
            ".jxl",
            "distance",
            (15, 9, 5.5, 3, 1.6, 0.8),
            _jxl_encode,
            _jxl_decode,
            "imagecodecs, libjxl: effort 7",
            partial(_library_inside, "libjxl"),
            inside=partial(_imagecodecs_has, "jpegxl_encode"),
        ),
        Adapter(
            "hevc",
            "av",
            ".hevc",
            "QP",
            (45, 40, 35, 30, 25, 20),
            _hevc_encode,
            _hevc_decode,
            "PyAV, libx265: intra, 8-bit 4:4:4, preset medium, tune psnr; raw stream",
            _pyav,
        ),
    )
}


def find(name: str, settings: tuple[float, ...] = (), by_step: bool = False) -> Adapter:
    """The adapter of this name; see `scc` for settings of sccodec's own. Raises BadRequest."""
    if name.partition("@")[0].partition(":")[0] == "scc":
        return scc(name, settings, by_step)
    if name not in CLASSICAL:
        known = ", ".join(("scc", "scc:LAYER", "scc@MODEL", *CLASSICAL))
        raise BadRequest(f"unknown codec {name!r}", hint=f"known are {known}")
    return CLASSICAL[name]


def choose(
    names: list[str], settings: tuple[float, ...], by_step: bool = False
) -> tuple[list[Adapter], list[str]]:
    """The adapters of these names that can run here, and a sentence for each that cannot.

    Settings are those of sccodec's own: bits per pixel of whole files, or step indexes.
    Raises BadRequest for unknown or repeated names, and if none can run.
    """
    if not names:
        raise BadRequest("no codecs")
    if len(set(names)) < len(names):
        raise BadRequest(f"a codec is named twice in {','.join(names)}")
    found = [find(name, settings, by_step) for name in names]
    left_out = [
        f"{adapter.name} is left out: {adapter.lacking}" for adapter in found if adapter.lacking
    ]
    if len(left_out) == len(found):
        raise BadRequest(
            "none of the codecs can run here: " + "; ".join(left_out),
            hint="pip install 'sccodec[eval]'",
        )
    return [adapter for adapter in found if not adapter.lacking], left_out
