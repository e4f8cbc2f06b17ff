"""Points of rate and distortion: every codec at every setting on every picture, from its file.

Each point is coded alone on the machine, so that its seconds mean something, and its file is
kept; what the decoded pixels are worth is computed afterwards, on all cores.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sccodec.container.writer import whole_file
from sccodec.entropy.tables import STEPS
from sccodec.errors import BadRequest, CodecError
from sccodec.evaluate import adapters, machine, quality
from sccodec.evaluate.adapters import Adapter
from sccodec.evaluate.journal import Journal
from sccodec.evaluate.pictures import Original, load
from sccodec.threads import processes

Progress = Callable[[str, int, int], None]  # what is done, how many of them, of how many


@dataclass(frozen=True)
class Point:
    """One codec at one setting on one picture."""

    picture: Original
    codec: Adapter
    setting: float

    @property
    def key(self) -> tuple:
        return (self.picture.digest, self.codec.name, self.setting, self.codec.version)

    @property
    def named(self) -> tuple[str, bool]:
        """What a worker process needs to find the codec."""
        return self.codec.name, self.codec.by_step

    def file(self, folder: Path) -> Path:
        """Where its coded file lies; files of other pictures and versions have other names."""
        return place(folder, self.picture, self.codec, f"{self.setting:g}")


def place(folder: Path, picture: Original, codec: Adapter, what: str) -> Path:
    """A file of one picture by one version of a codec, below `folder`."""
    version = hashlib.sha256(codec.version.encode()).hexdigest()[:6]
    stem = Path(picture.name).stem.encode()[:150].decode(errors="ignore")  # names have an end
    stem = f"{stem}-{picture.digest[:6]}-{what}-{version}"
    return folder / "files" / codec.name.replace(":", "-") / (stem + codec.suffix)


def points(pictures: list[Original], codecs: list[Adapter]) -> list[Point]:
    """All of a run, picture by picture, so that a stopped run has whole pictures; small first."""
    by_size = sorted(pictures, key=lambda p: p.width * p.height)
    return [Point(p, c, s) for p in by_size for c in codecs for s in c.settings]


def check_rates(rates: list[float]) -> tuple[float, ...]:
    """Rates in bits per pixel; BadRequest unless they are positive and rise."""
    if not rates:
        raise BadRequest("no rates")
    for rate in rates:
        if not 0 < rate <= 48:
            raise BadRequest(f"a rate of {rate:g} bits per pixel makes no sense")
    if any(b <= a for a, b in itertools.pairwise(rates)):
        raise BadRequest(f"rates do not rise: {', '.join(f'{rate:g}' for rate in rates)}")
    return tuple(rates)


def check_steps(steps: list[int]) -> tuple[int, ...]:
    """Step indexes, from small files to large ones; BadRequest unless they fall and exist."""
    if not steps:
        raise BadRequest("no steps")
    for step in steps:
        if not 0 <= step < STEPS:
            raise BadRequest(f"a step index of {step} is not within 0..{STEPS - 1}")
    if any(b >= a for a, b in itertools.pairwise(steps)):
        raise BadRequest(f"steps do not fall: {', '.join(map(str, steps))}")
    return tuple(steps)


def check_journal(journal: Journal, pictures: list[Original]) -> None:
    """Raises BadRequest if the journal is that of other pictures."""
    known = {key[0] for key in journal.keys}
    if known and known.isdisjoint(picture.digest for picture in pictures):
        raise BadRequest(
            f"{journal.path.parent} holds measurements of other pictures",
            hint="name another folder for these",
        )


def measure(
    wanted: list[Point],
    journal: Journal,
    *,
    jobs: int = 1,
    timed: bool = True,
    progress: Progress = lambda *_: None,
) -> list[dict]:
    """What the journal lacks is measured; rows of all points, in their order.

    Timed points are coded first, one after the other with nothing beside them: each codec in a
    process of its own. All else, which has no clock, is done by `jobs` processes at once.
    A row of a setting that the codec refuses for a picture has `refused` and no figures.
    """
    folder, gradable = journal.path.parent, find_spec("ssimulacra2") is not None

    def lacks(point: Point, *figures: str) -> bool:
        facts = journal.facts(point.key)
        if "refused" in facts:
            return False
        # Measured before a package was there, or with other threads than all else of this run.
        small = min(point.picture.width, point.picture.height) < quality.SSIMULACRA2_SIDE
        ungraded = gradable and not small and facts.get("ssimulacra2") is None
        anew = ("psnr" in figures and ungraded) or (
            "encode_s" in figures and facts.get("threads") != jobs
        )
        return anew or any(figure not in facts for figure in figures)

    def work(todo: list[Point], function: Callable, what: str, jobs: int, *rest, apart: bool):
        tasks = [
            (p.key, function, (p.picture.path, p.named, p.setting, p.file(folder), *rest))
            for p in todo
        ]
        for key, facts in run_all(tasks, jobs, progress, what, apart):
            journal.add(key, **facts)

    if timed:
        for codec in dict.fromkeys(p.codec.name for p in wanted):
            todo = [p for p in wanted if p.codec.name == codec and lacks(p, "encode_s")]
            work(todo, _code_timed, f"{codec}: coded and timed", 1, jobs, apart=True)
    todo = [p for p in wanted if lacks(p, "bytes", "psnr")]
    work(todo, _code_and_grade, "coded, decoded and compared", jobs, apart=False)
    return [row(point, journal) for point in wanted]


def run_all(
    tasks: list[tuple], jobs: int, progress: Progress, what: str, apart: bool = False
) -> Iterator[tuple[tuple, dict]]:
    """(key, function(*arguments)) of each task as it ends, in `jobs` processes.

    With one job they run here, unless they are to be `apart` from what this process has done.
    """
    jobs = min(jobs, len(tasks))
    if not tasks:
        return
    if jobs == 1 and not apart:
        for done, (key, function, arguments) in enumerate(tasks, 1):
            yield key, function(*arguments)
            progress(what, done, len(tasks))
        return
    pool = processes(jobs)
    try:
        futures = {pool.submit(function, *rest): key for key, function, rest in tasks}
        for done, future in enumerate(as_completed(futures), 1):
            yield futures[future], future.result()
            progress(what, done, len(tasks))
    except BrokenProcessPool:
        raise CodecError(f"{what}: a worker process ended by itself") from None
    finally:
        pool.shutdown(cancel_futures=True)


# -- in the worker processes --------------------------------------------------------------------


@cache
def _adapter(name: str, by_step: bool) -> Adapter:
    return adapters.find(name, by_step=by_step)


_warm: set[tuple[str, bool]] = set()  # codecs that this process has run once


def _code_timed(
    path: str, codec: tuple[str, bool], setting: float, target: Path, threads: int
) -> dict:
    """Codes one file: seconds, processor seconds and peak memory of both directions."""
    machine.use_cores(threads)
    adapter, pixels = _adapter(*codec), load(path)
    try:
        if codec not in _warm:  # libraries load and threads start once
            adapter.decode(adapter.encode(pixels, setting, threads), threads)
            _warm.add(codec)
        data, encoding = machine.clocked(lambda: adapter.encode(pixels, setting, threads), "encode")
    except BadRequest as error:
        return {"refused": str(error)}
    _, decoding = machine.clocked(lambda: adapter.decode(data, threads), "decode")
    if not adapter.threads_count:  # what is graded is coded by one thread
        put(target, data)
    return encoding | decoding | {"threads": threads}


def _code_and_grade(path: str, codec: tuple[str, bool], setting: float, target: Path) -> dict:
    """Bytes and every measure of quality of one file, which is coded unless it is there."""
    adapter, pixels = _adapter(*codec), load(path)
    if not target.exists():
        try:
            put(target, adapter.encode(pixels, setting, 1))
        except BadRequest as error:
            return {"refused": str(error)}
    size = target.stat().st_size
    facts = {"bytes": size, "bpp": 8 * size / (pixels.shape[0] * pixels.shape[1])}
    return facts | quality.measure(pixels, decoded(adapter, target, pixels.shape))


def put(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target, force=True) as out:
        out.write(data)


def decoded(adapter: Adapter, file: Path, shape: tuple) -> np.ndarray:
    """The pixels of a coded file; CodecError if they are not of the original's shape."""
    pixels = adapter.decode(file.read_bytes(), 1)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise CodecError(f"{file}: decodes to {pixels.dtype} of shape {pixels.shape}, not {shape}")
    return pixels


# -- rows ---------------------------------------------------------------------------------------

COLUMNS = (
    *("picture", "width", "height", "codec", "setting", "bytes", "bpp"),
    *("encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s", "encode_peak", "decode_peak"),
    *("psnr", "psnr_y", "ms_ssim", "ms_ssim_db", "ssimulacra2"),
    *("threads", "version", "digest", "refused"),
)


def row(point: Point, journal: Journal) -> dict:
    """One line of the report; None for what was not measured."""
    facts = journal.facts(point.key)
    about = {
        "picture": point.picture.name,
        "width": point.picture.width,
        "height": point.picture.height,
        "codec": point.codec.name,
        "setting": point.setting,
        "version": point.codec.version,
        "digest": point.picture.digest,
    }
    return {name: about.get(name, facts.get(name)) for name in COLUMNS}


def of_codec(rows: Iterable[dict], name: str) -> list[dict]:
    """The rows of one codec that have figures."""
    return [r for r in rows if r["codec"] == name and r["refused"] is None]
