"""Points of rate and distortion: every codec at every setting on every picture, from its file.

Each point is coded alone on the machine, so that its seconds mean something, and its file is
kept; what the decoded pixels are worth is computed afterwards, on all cores.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sccodec.container.writer import whole_file
from sccodec.errors import BadRequest, CodecError
from sccodec.evaluate import adapters, machine, quality
from sccodec.evaluate.adapters import Adapter
from sccodec.evaluate.journal import Journal
from sccodec.evaluate.pictures import Original, load

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

    def file(self, folder: Path) -> Path:
        """Where its coded file lies."""
        stem = f"{Path(self.picture.name).stem}-{self.picture.digest[:8]}-{self.setting:g}"
        return folder / "files" / self.codec.name.replace(":", "-") / (stem + self.codec.suffix)


def points(pictures: list[Original], codecs: list[Adapter]) -> list[Point]:
    """All of a run, in the order in which they are measured: small pictures first."""
    by_size = sorted(pictures, key=lambda p: p.width * p.height)
    return [Point(p, c, s) for c in codecs for p in by_size for s in c.settings]


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

    A row of a setting that the codec refuses for a picture has `refused` and no figures.
    """
    folder = journal.path.parent
    code_all(wanted, journal, jobs, timed, progress)
    coded = [p for p in wanted if "bytes" in journal.facts(p.key)]
    missing = [p for p in coded if "psnr" not in journal.facts(p.key)]
    tasks = [(p.key, _grade, (p.picture.path, p.codec.name, p.file(folder))) for p in missing]
    for key, facts in _run(tasks, jobs, progress, "decoded and compared"):
        journal.add(key, **facts)
    return [row(point, journal) for point in wanted]


def code_all(
    wanted: list[Point], journal: Journal, jobs: int, timed: bool, progress: Progress
) -> None:
    """Writes the file of every point that the journal lacks: alone if timed, else on all cores.

    A timed codec has a process of its own, in which nothing else is ever run.
    """
    folder = journal.path.parent

    def missing(point: Point) -> bool:
        facts = journal.facts(point.key)
        if "refused" in facts:
            return False
        there = "bytes" in facts and ("psnr" in facts or point.file(folder).exists())
        return not there or (timed and "encode_s" not in facts)

    groups: dict[str, list[Point]] = {}
    for point in filter(missing, wanted):
        groups.setdefault(point.codec.name if timed else "all codecs", []).append(point)
    for name, group in groups.items():
        threads = jobs if timed else 1
        tasks = [
            (
                p.key,
                _code,
                (p.picture.path, p.codec.name, p.setting, p.file(folder), threads, timed),
            )
            for p in group
        ]
        what = f"{name}: coded and timed" if timed else "coded"
        for key, facts in _run(tasks, 1 if timed else jobs, progress, what, apart=timed):
            journal.add(key, **facts)


def _run(
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
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(function, *rest): key for key, function, rest in tasks}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                yield futures[future], future.result()
                progress(what, done, len(tasks))
        except BrokenProcessPool:
            raise CodecError(f"{what}: a worker process ended by itself") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# -- in the worker processes --------------------------------------------------------------------


@cache
def _adapter(name: str) -> Adapter:
    return adapters.find(name)


_warm: set[str] = set()  # codecs that this process has run once


def _code(path: str, codec: str, setting: float, target: Path, threads: int, timed: bool) -> dict:
    """Writes one file; its bytes and, if `timed`, seconds and peak memory of both directions."""
    adapter, pixels = _adapter(codec), load(path)
    try:
        if timed and codec not in _warm:  # libraries load and threads start once
            adapter.decode(adapter.encode(pixels, setting, threads), threads)
            _warm.add(codec)
        data, encoding = _timed(lambda: adapter.encode(pixels, setting, threads), "encode")
    except BadRequest as error:
        return {"refused": str(error)}
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target, force=True) as out:
        out.write(data)
    facts = {"bytes": len(data), "bpp": 8 * len(data) / (pixels.shape[0] * pixels.shape[1])}
    if timed:
        _, decoding = _timed(lambda: adapter.decode(data, threads), "decode")
        facts |= encoding | decoding | {"threads": threads}
    return facts


def _timed(step: Callable, name: str) -> tuple:
    """What a step gives, its seconds, and the peak of memory in it where that can be told."""
    can_tell = machine.reset_peak()
    begin = time.perf_counter()
    result = step()
    seconds = time.perf_counter() - begin
    return result, {f"{name}_s": seconds, f"{name}_peak": machine.peak() if can_tell else None}


def _grade(path: str, codec: str, file: Path) -> dict:
    """Every measure of quality of one coded file."""
    pixels = load(path)
    return quality.measure(pixels, decoded(_adapter(codec), file, pixels.shape))


def decoded(adapter: Adapter, file: Path, shape: tuple) -> np.ndarray:
    """The pixels of a coded file; CodecError if they are not of the original's shape."""
    pixels = adapter.decode(file.read_bytes(), 1)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise CodecError(f"{file}: decodes to {pixels.dtype} of shape {pixels.shape}, not {shape}")
    return pixels


# -- rows ---------------------------------------------------------------------------------------

COLUMNS = (
    *("picture", "width", "height", "codec", "setting", "bytes", "bpp"),
    *("encode_s", "decode_s", "encode_peak", "decode_peak"),
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


def all_cores() -> int:
    return os.cpu_count() or 1


def of_codec(rows: Iterable[dict], name: str) -> list[dict]:
    """The rows of one codec that have figures."""
    return [r for r in rows if r["codec"] == name and r["refused"] is None]
