"""`sccodec eval rd`: the whole run, from picture names to the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sccodec.errors import BadRequest
from sccodec.evaluate import adapters, curves, machine, match, rate
from sccodec.evaluate.adapters import Adapter
from sccodec.evaluate.journal import Journal
from sccodec.evaluate.page import View
from sccodec.evaluate.pictures import Original, originals
from sccodec.evaluate.quality import psnr
from sccodec.evaluate.rate import Progress
from sccodec.evaluate.report import Report, percent


@dataclass(frozen=True)
class Plan:
    """What a run is asked for; see `sccodec eval rd --help`."""

    images: list[str]
    codecs: list[str]
    rates: list[float]  # of sccodec's own files, in bits per pixel
    published: str | None = None
    wanted: list[str] | None = None  # published curves, None for all
    anchors: list[str] | None = None  # None for all measured codecs
    timed: bool = True
    show: int = 3
    jobs: int = 1
    steps: list[int] | None = None  # step indexes of sccodec's own files, in place of rates


def run(plan: Plan, folder: Path, progress: Progress = lambda *_: None) -> tuple[Report, list[str]]:
    """Measures what is missing and writes the report; returns it and the names of its files.

    Nonsense is refused before anything is measured. Raises BadRequest, and what reading a
    picture raises.
    """
    by_step = plan.steps is not None
    settings = rate.check_steps(plan.steps) if by_step else rate.check_rates(plan.rates)
    codecs, left_out = adapters.choose(plan.codecs, settings, by_step)
    published = _published(plan)
    names = [codec.name for codec in codecs]
    if twins := {curve.name for curve in published} & set(names):
        raise BadRequest(
            f"{plan.published} has a curve {min(twins)!r}, as a codec here is called",
            hint="rename it there, or name with --curve those that are wanted",
        )
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
        machine.about(),
        [{"name": c.name, "version": c.version, "about": c.about, "unit": c.unit} for c in codecs],
        [{"name": p.name, "digest": p.digest} for p in pictures],
        rows,
        published,
        plan.anchors or names,
        left_out + _refused(rows) + _two_kinds(published, codecs),
    )
    sliders = [slider(picture, codecs, folder) for picture in pictures[: plan.show]]
    return report, report.write(folder, sliders)


def _published(plan: Plan) -> list[curves.Curve]:
    if plan.published is None:
        if plan.wanted:
            raise BadRequest("--curve needs --published")
        return []
    return curves.read_published(plan.published, plan.wanted)


def _refused(rows: list[dict]) -> list[str]:
    """A sentence for each setting that a codec refused; such a setting has no mean."""
    return [
        f"{row['codec']} at {row['setting']:g} of {row['picture']} is left out: {row['refused']}"
        for row in rows
        if row["refused"]
    ]


def _two_kinds(published: list[curves.Curve], codecs: list[Adapter]) -> list[str]:
    """What to mind where mean curves do not compare; see `curves.mean_curve`."""
    by_rate = [c.name for c in codecs if c.library == "sccodec" and not c.by_step]
    if not published or not by_rate:
        return []
    return [
        f"{', '.join(by_rate)} by rate: published curves are of one quality for all pictures, "
        "to which only --steps compares"
    ]


# -- side by side -------------------------------------------------------------------------------


def slider(picture: Original, codecs: list[Adapter], folder: Path) -> tuple[str, list[View]]:
    """A title, and the original beside every codec at as many bytes as the first one's file.

    That is its file at the middle setting. Others get the largest file that is no larger; a
    layer's file comes from the whole file of that setting, so it is smaller. Codecs that refuse
    the picture are left out.
    """
    pixels, reference = picture.pixels, codecs[0]
    views, most = [View("original", pixels)], 0
    for codec in codecs:
        try:
            file = _shown(picture, pixels, codec, reference, most, folder)
        except BadRequest:
            continue
        size = file.stat().st_size
        most = most or size
        decoded = rate.decoded(codec, file, pixels.shape)
        words = f"{codec.name}: {size} bytes, {psnr(pixels, decoded):.2f} dB"
        views.append(View(words, decoded))
    title = f"{picture.name}: {reference.name}, {reference.unit}: {reference.middle:g}"
    return title, views


def _shown(
    picture: Original, pixels, codec: Adapter, reference: Adapter, most: int, folder: Path
) -> Path:
    """The coded file that a slider shows, written unless it is there."""
    if not most or codec.settings == reference.settings:
        file = rate.place(folder, picture, codec, f"{codec.middle:g}")
        if not file.exists():
            rate.put(file, codec.encode(pixels, codec.middle, 1))
    else:
        file = rate.place(folder, picture, codec, f"within-{most}")
        if not file.exists():
            rate.put(file, match.largest_within(codec, pixels, most).data)
    return file


# -- words --------------------------------------------------------------------------------------


def summary(report: Report) -> str:
    """BD-rate on PSNR against the first anchor, for a terminal."""
    anchor = report.anchors[0]
    found, each = (
        d.get(anchor, {}) for d in (report.differences("psnr"), report.by_picture("psnr"))
    )
    width = max(len(name) for name in [*found, anchor])
    lines = [
        f"BD-rate on RGB PSNR against {anchor}",
        f"{'':<{width}}  {'mean of pictures':>20}  {'mean curves':>15}",
    ]
    lines += [
        f"{name:<{width}}  {percent(each.get(name)):>20}  {percent(d) or 'no shared range':>15}"
        for name, d in found.items()
    ]
    return "\n".join(line.rstrip() for line in lines)
