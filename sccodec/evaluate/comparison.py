"""`sccodec eval rd`: the whole run, from picture names to the report."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path

from sccodec.errors import BadRequest
from sccodec.evaluate import adapters, curves, machine, rate
from sccodec.evaluate.adapters import Adapter
from sccodec.evaluate.journal import Journal
from sccodec.evaluate.pictures import Original, originals
from sccodec.evaluate.rate import Progress
from sccodec.evaluate.report import Report, View, percent


@dataclass(frozen=True)
class Plan:
    """What a run is asked for; see `sccodec eval rd --help`."""

    images: list[str]
    codecs: list[str]
    rates: list[float]
    published: str | None = None
    wanted: list[str] | None = None  # published curves, None for all
    anchors: list[str] | None = None  # None for all measured codecs
    timed: bool = True
    show: int = 3
    jobs: int = 1


def run(plan: Plan, folder: Path, progress: Progress = lambda *_: None) -> tuple[Report, list[str]]:
    """Measures what is missing and writes the report; returns it and the names of its files.

    Nonsense is refused before anything is measured. Raises BadRequest, and what reading a
    picture raises.
    """
    rates = rate.check_rates(plan.rates)
    codecs, left_out = adapters.choose(plan.codecs, rates)
    published = _published(plan)
    names = [codec.name for codec in codecs]
    known = [*names, *(curve.name for curve in published)]
    for anchor in plan.anchors or ():
        if anchor not in known:
            raise BadRequest(f"no curve {anchor!r} to be an anchor", hint=f"{', '.join(known)}")
    pictures = originals(plan.images)
    journal = Journal(folder)
    rate.check_journal(journal, pictures)
    rows = rate.measure(
        rate.points(pictures, codecs), journal, jobs=plan.jobs, timed=plan.timed, progress=progress
    )
    report = Report(
        _about(),
        [{"name": c.name, "version": c.version, "about": c.about, "unit": c.unit} for c in codecs],
        [picture.name for picture in pictures],
        rows,
        published,
        plan.anchors or names,
        left_out + _refused(rows),
    )
    sliders = [slider(picture, codecs, rates) for picture in pictures[: plan.show]]
    return report, report.write(folder, sliders)


def _published(plan: Plan) -> list[curves.Curve]:
    if plan.published is None:
        if plan.wanted:
            raise BadRequest("--curve needs --published")
        return []
    return curves.read_published(plan.published, plan.wanted)


def _about() -> dict:
    from sccodec import __version__

    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": today, "sccodec": __version__, "machine": machine.describe()}


def _refused(rows: list[dict]) -> list[str]:
    """A sentence for each setting that a codec refused; such a setting has no mean."""
    return [
        f"{row['codec']} at {row['setting']:g} of {row['picture']} is left out: {row['refused']}"
        for row in rows
        if row["refused"]
    ]


# -- side by side -------------------------------------------------------------------------------


def slider(
    picture: Original, codecs: list[Adapter], rates: tuple[float, ...]
) -> tuple[str, list[View]]:
    """A title, and the original beside every codec at as many bytes as sccodec's whole file.

    The reference is the first codec at its middle setting; the others' files are the largest
    that are no larger. A layer's file is that of the same whole file, so it is smaller.
    """
    pixels = picture.pixels
    reference = codecs[0]
    middle = reference.settings[len(reference.settings) // 2]
    views = [View("original", pixels)]
    target = None
    for codec in codecs:
        if target is None or codec.library == "sccodec":
            data = codec.encode(pixels, middle, 1)
            target = target or len(data)
        else:
            data = largest_within(codec, pixels, target)
        decoded = codec.decode(data, 1)
        views.append(View(f"{codec.name}: {len(data)} bytes", decoded))
    return f"{picture.name}, {reference.name} at {middle:g} {reference.unit}", views


SEARCH = 7  # halvings between two settings that differ by one


def largest_within(codec: Adapter, pixels, most: int) -> bytes:
    """The codec's largest file of at most `most` bytes, or its smallest if even that is larger."""

    def at(place: float) -> bytes:
        """Between the settings of the list, which rise in bytes."""
        n = min(int(place), len(codec.settings) - 2)
        low, high = codec.settings[n : n + 2]
        return codec.encode(pixels, low + (high - low) * (place - n), 1)

    low, high = 0.0, float(len(codec.settings) - 1)
    best = at(low)
    if len(best) > most:
        return best
    for _ in range(SEARCH + math.ceil(math.log2(high))):
        middle = (low + high) / 2
        data = at(middle)
        if len(data) <= most:
            low, best = middle, data
        else:
            high = middle
    return best


# -- words --------------------------------------------------------------------------------------


def summary(report: Report) -> str:
    """BD-rate on PSNR against the first anchor, for a terminal."""
    anchor = report.anchors[0]
    found = report.differences("psnr")[anchor]
    width = max(len(name) for name in [*found, anchor])
    lines = [f"BD-rate on RGB PSNR against {anchor}"]
    lines += [
        f"{name:<{width}}  {percent(d) or 'no shared range':>16}" for name, d in found.items()
    ]
    return "\n".join(lines)
