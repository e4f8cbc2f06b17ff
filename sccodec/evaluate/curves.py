"""Rate-distortion curves: means over pictures, published ones, and BD-rate between two."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sccodec.errors import SENSELESS_JSON, BadRequest
from sccodec.evaluate.quality import finite, ms_ssim_db

# Measures that a curve may have, and what they are called.
MEASURES = {
    "psnr": "RGB PSNR, dB",
    "psnr_y": "luma PSNR, dB",
    "ms_ssim_db": "MS-SSIM, dB (-10 log10(1 - x))",
    "ssimulacra2": "SSIMULACRA2",
}

# Means of these are told beside them, where they were measured.
COSTS = ("encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s")


@dataclass(frozen=True)
class Curve:
    """One codec's points: each a dict with `bpp` and some of MEASURES, by rising rate."""

    name: str
    points: tuple[dict, ...]
    published: bool = False

    def of(self, measure: str) -> list[tuple[float, float]]:
        """(bpp, value) of the points that have this measure."""
        return _points(self.points, measure)


@dataclass(frozen=True)
class Difference:
    """BD-rate: percent more bits than the anchor takes (negative: fewer), and over what range."""

    percent: float
    low: float  # of the quality range that both curves share
    high: float


def bd_rate(
    anchor: list[tuple[float, float]], test: list[tuple[float, float]]
) -> Difference | None:
    """Bjontegaard's difference between two curves of (rate, quality).

    log(rate) over quality, interpolated by piecewise cubic Hermite polynomials (PCHIP) and
    averaged over the qualities that both curves reach (G. Bjontegaard, VCEG-M33; PCHIP as in
    JCTVC-L1100). None if they share no range, or one has fewer than two points.
    """
    from scipy.interpolate import PchipInterpolator

    curves = []
    for points in (anchor, test):
        rising = _rising(points)
        if len(rising) < 2:
            return None
        rates, values = np.array(rising).T
        curves.append((values, PchipInterpolator(values, np.log(rates))))
    low = max(values[0] for values, _ in curves)
    high = min(values[-1] for values, _ in curves)
    if low >= high:
        return None
    first, second = (float(curve.integrate(low, high)) for _, curve in curves)
    percent = 100 * math.expm1((second - first) / (high - low))
    return Difference(percent, float(low), float(high))


@dataclass(frozen=True)
class MeanDifference:
    """The mean of pictures' BD-rates, over those on which the two codecs share a range."""

    percent: float
    pictures: int
    of: int  # pictures that there are


def mean_bd_rate(
    anchor: list[dict], test: list[dict], measure: str, of: int | None = None
) -> MeanDifference | None:
    """BD-rate of each picture by itself, averaged: rows of two codecs, told apart by `digest`.

    Whatever a codec's setting asks for, a rate or a quality, a picture's own curve is the same, so
    this compares codecs of both kinds; means by setting do not (see `mean_curve`).
    None if the codecs share a range on no picture.
    """
    pictures = sorted({row["digest"] for row in (*anchor, *test)})
    percents = []
    for picture in pictures:
        curves = (
            _points([row for row in rows if row["digest"] == picture], measure)
            for rows in (anchor, test)
        )
        difference = bd_rate(*curves)
        if difference:
            percents.append(difference.percent)
    if not percents:
        return None
    return MeanDifference(float(np.mean(percents)), len(percents), of or len(pictures))


def _points(rows: Iterable[dict], measure: str) -> list[tuple[float, float]]:
    """(bpp, value) of the rows that have this measure."""
    return [
        (row["bpp"], row[measure])
        for row in rows
        if row.get(measure) is not None and math.isfinite(row[measure])
    ]


def _rising(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """By rising rate, without points that cost more than another and are no better."""
    kept: list[tuple[float, float]] = []
    for rate, value in sorted(points):
        if not kept or value > kept[-1][1]:
            kept.append((rate, value))
    return kept


def mean_curve(name: str, rows: list[dict], pictures: int) -> Curve:
    """The mean of bpp and of each measure over pictures, by setting.

    As CompressAI does: of the dB of PSNR, not of errors, but of MS-SSIM before it is put into dB.
    A setting that some picture lacks is left out, and so is a measure.

    Only curves of settings of one kind compare: at one rate for every picture the decibels of easy
    and hard ones lie far apart, at one quality their rates do, and the means of the two kinds
    differ by several per cent of the rate for the same codec.
    """
    points = []
    for setting in sorted({row["setting"] for row in rows}):
        group = [row for row in rows if row["setting"] == setting]
        if len(group) != pictures:
            continue
        point = {"setting": setting, "pictures": pictures}
        for key in ("bpp", "ms_ssim", *MEASURES, *COSTS):
            values = [row.get(key) for row in group]
            point[key] = None if None in values else float(np.mean(values))
        if point["ms_ssim"] is not None:  # as published means are: of MS-SSIM, then in dB
            point["ms_ssim_db"] = finite(ms_ssim_db(point["ms_ssim"]))
        points.append(point)
    return Curve(name, tuple(sorted(points, key=lambda p: p["bpp"])))


def read_published(name: str, wanted: list[str] | None = None) -> list[Curve]:
    """Curves of a JSON file {codec: [{"bpp": ..., "psnr": ..., "ms_ssim": ...}, ...], ...}.

    Keys that start with `_` are notes. `wanted` names curves; None for all. Raises BadRequest.
    """
    try:
        with open(name, "rb") as file:
            content = json.load(file)
        curves = {
            codec: Curve(codec, tuple(sorted(map(_published, rows), key=lambda p: p["bpp"])), True)
            for codec, rows in content.items()
            if not codec.startswith("_") and _printable(codec)
        }
    except OSError as error:
        raise BadRequest(f"{name}: {(error.strerror or str(error)).lower()}") from None
    except (*SENSELESS_JSON, OverflowError) as error:
        raise BadRequest(f"{name}: not a file of published curves: {error!r}") from None
    for codec in wanted or ():
        if codec not in curves:
            raise BadRequest(f"{name} has no curve {codec!r}", hint=f"it has {', '.join(curves)}")
    return [curves[codec] for codec in (curves if wanted is None else dict.fromkeys(wanted))]


def _printable(name: str) -> bool:
    """True; ValueError for a name that neither XML nor a terminal can hold."""
    if not name.isprintable():
        raise ValueError(f"a curve called {name!r}")
    return True


def _published(row: dict) -> dict:
    point = {"bpp": float(row["bpp"])}
    if not 0 < point["bpp"] < math.inf:
        raise ValueError(f"a rate of {row['bpp']}")
    for name in ("psnr", "ms_ssim"):
        if row.get(name) is not None:
            point[name] = float(row[name])
            if not math.isfinite(point[name]):
                raise ValueError(f"{name} of {row[name]}")
    if len(point) == 1:
        raise ValueError(f"a point with neither psnr nor ms_ssim: {row}")
    if "ms_ssim" in point:
        if point["ms_ssim"] > 1:
            raise ValueError(f"ms_ssim of {row['ms_ssim']}; it is 0 to 1, not dB")
        point["ms_ssim_db"] = finite(ms_ssim_db(point["ms_ssim"]))
    return point
