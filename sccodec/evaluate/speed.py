"""`sccodec bench`: seconds and memory by size of picture, per stage, beside other codecs.

One picture is scaled in area by mirroring it, never by resampling, so that every size has the
same content. Nothing else is run beside what is timed.
"""

from __future__ import annotations

import cProfile
import itertools
import json
import math
import pstats
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from types import CodeType

import numpy as np

from sccodec import container
from sccodec.codecs import finishing
from sccodec.codecs import image as pictures
from sccodec.codecs.canvas import Latents
from sccodec.codecs.payloads import TileCoder, decode_tiles
from sccodec.container import writer
from sccodec.container.rules import environment_limits
from sccodec.errors import BadRequest, CodecError
from sccodec.evaluate import adapters, machine, rate
from sccodec.evaluate.adapters import Adapter
from sccodec.evaluate.journal import Journal
from sccodec.evaluate.page import count
from sccodec.evaluate.pictures import load, originals
from sccodec.evaluate.quality import finite, psnr
from sccodec.media import image
from sccodec.transform import graphs

PICTURE = Path(__file__).parents[1] / "demo" / "photo.png"
ASPECT = 1.5  # width over height of every size

# Stages by the functions that do them: what passes in those, and in all that they call, is the
# stage. At the default effort no function here calls another one of its list.
STAGES = {
    "encode": {
        "analysis": (graphs.analyse,),
        "rate search": (TileCoder.bits,),
        "moving latents": (pictures._moved,),
        "entropy coding": (TileCoder.code,),
        "decoding again": (TileCoder.decoded, finishing.correct, pictures._measure),
        "writing": (writer.to_bytes,),
    },
    "decode": {
        "parsing": (container.from_bytes,),
        "entropy decoding": (decode_tiles,),
        "synthesis": (Latents.each_window,),
    },
}


@dataclass(frozen=True)
class Plan:
    """What a run is asked for; see `sccodec bench --help`."""

    codecs: list[str]
    sizes: list[float]  # megapixels
    threads: list[int]
    picture: str = str(PICTURE)
    repeat: int = 3
    whole_process: bool = True


def run(
    plan: Plan, folder: Path, progress: rate.Progress = lambda *_: None
) -> tuple[list[dict], list[str]]:
    """One row for each codec, number of threads and size, and who is left out.

    A journal in `folder` keeps what is measured.
    """
    sizes = check_sizes(plan.sizes)
    if plan.repeat < 1:
        raise BadRequest(f"{plan.repeat} repetitions make no sense")
    codecs, left_out = adapters.choose(plan.codecs, (0.5,))
    codecs = [bench_adapter(codec.name) for codec in codecs]
    (picture,) = originals([plan.picture])
    journal = Journal(folder)
    rate.check_journal(journal, [picture])
    rows = []
    for codec, threads in itertools.product(codecs, plan.threads):
        fixed = (picture.digest, "bench", codec.name, codec.middle, codec.version, threads)
        keys = {size: (*fixed, plan.repeat, size) for size in sizes}
        arguments = {
            key: (plan.picture, codec.name, size, threads, plan.repeat)
            for size, key in keys.items()
        }
        tasks = [
            (key, warm, arguments[key])
            for key in keys.values()
            if not journal.facts(key).keys() & {"encode_s", "refused"}
        ]
        what = f"{codec.name}, {count(threads, 'thread')}"
        for key, found in rate.run_all(tasks, 1, progress, what, apart=True):
            journal.add(key, **found)
        for size, key in keys.items():
            if refused := journal.facts(key).get("refused"):
                left_out.append(f"{codec.name} at {size:g} megapixels is left out: {refused}")
                continue
            if plan.whole_process and "process_encode_s" not in journal.facts(key):
                journal.add(key, **whole_process(*arguments[key]))
            about = {"codec": codec.name, "version": codec.version, "threads": threads}
            rows.append({**about, "megapixels": size, **journal.facts(key)})
    return rows, left_out


def check_sizes(sizes: list[float]) -> list[float]:
    """Megapixels; BadRequest unless they are positive, rise, and stay within the limit."""
    most = environment_limits().max_pixels / 1e6
    for size in sizes:
        if not 0.001 <= size <= most:
            raise BadRequest(f"a size of {size:g} megapixels is not within 0.001..{most:.0f}")
    if not sizes or sorted(set(sizes)) != sizes:
        raise BadRequest("sizes do not rise" if sizes else "no sizes")
    return sizes


def bench_adapter(name: str) -> Adapter:
    """Every codec at one given quality; none searches for a size."""
    return adapters.scc_by_step(name) if name.startswith("scc") else adapters.find(name)


@cache
def scene(path: str, megapixels: float) -> np.ndarray:
    """(H, W, 3) uint8 of that many megapixels: the picture and its mirror images side by side."""
    pixels = load(path)
    width = max(1, round(math.sqrt(megapixels * 1e6 * ASPECT)))
    height = max(1, round(megapixels * 1e6 / width))
    rows = _mirrored(height, pixels.shape[0])
    columns = _mirrored(width, pixels.shape[1])
    return np.ascontiguousarray(pixels[rows][:, columns])


def _mirrored(count: int, length: int) -> np.ndarray:
    """0, 1, ..., length-1, length-1, ..., 1, 0, 0, 1, ... of that many."""
    at = np.arange(count) % (2 * length)
    return np.minimum(at, 2 * length - 1 - at)


# -- warm: in a worker process ------------------------------------------------------------------


def warm(path: str, name: str, megapixels: float, threads: int, repeat: int) -> dict:
    """Median seconds and peak memory in a process that has run the codec before; {"refused": why}
    if the codec cannot hold the picture."""
    machine.use_cores(threads)
    codec, pixels = bench_adapter(name), scene(path, megapixels)
    setting = codec.middle
    try:
        data = codec.encode(pixels, setting, threads)
        decoded = codec.decode(data, threads)
    except BadRequest as error:  # a side that a format cannot hold
        return {"refused": str(error)}
    runs = []
    for _ in range(repeat):
        _, encoding = machine.clocked(lambda: codec.encode(pixels, setting, threads), "encode")
        _, decoding = machine.clocked(lambda: codec.decode(data, threads), "decode")
        runs.append(encoding | decoding)
    facts = {
        key: None if None in values else median(values)
        for key in runs[0]
        for values in [[found[key] for found in runs]]
    }
    facts |= {
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "setting": setting,
        "bytes": len(data),
        "bpp": 8 * len(data) / (pixels.shape[0] * pixels.shape[1]),
        "psnr": finite(psnr(pixels, decoded)),
        "files": files(pixels, data),
    }
    if codec.library == "sccodec":
        facts["stages"] = {
            "encode": stages("encode", lambda: codec.encode(pixels, setting, threads)),
            "decode": stages("decode", lambda: codec.decode(data, threads)),
        }
    return facts


def files(pixels: np.ndarray, data: bytes) -> dict[str, float]:
    """Seconds of the stages outside every codec: a PNG in and out, and the coded file out."""
    with tempfile.TemporaryDirectory() as folder:
        png, coded = Path(folder) / "picture.png", Path(folder) / "coded"
        steps = {
            "write_png_s": lambda: image.write(image.from_array(pixels), png),
            "read_png_s": lambda: image.read(png, max_pixels=environment_limits().max_pixels),
            "write_coded_s": lambda: coded.write_bytes(data),
            "read_coded_s": coded.read_bytes,
        }
        found = {}
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            found[name] = time.perf_counter() - begin
        return found


def stages(direction: str, step: Callable[[], object]) -> dict[str, float]:
    """Seconds of each stage of one run, and what is left as `other`."""
    names = {f.__code__: name for name, functions in STAGES[direction].items() for f in functions}
    clock = _watched if hasattr(sys, "monitoring") else _profiled
    whole, seconds = clock(step, set(names))
    found = dict.fromkeys(STAGES[direction], 0.0)
    for code, spent in seconds.items():
        found[names[code]] += spent
    return {**found, "other": whole - sum(found.values())}


def _profiled(step: Callable[[], object], codes: set[CodeType]) -> tuple[float, dict]:
    """Seconds of a run, and those in each of the functions, as Python's profiler sees them."""
    profile = cProfile.Profile()
    begin = time.perf_counter()
    profile.runcall(step)
    whole = time.perf_counter() - begin
    known = pstats.Stats(profile).stats
    places = {code: (code.co_filename, code.co_firstlineno, code.co_name) for code in codes}
    return whole, {code: known[at][3] for code, at in places.items() if at in known}


def _watched(step: Callable[[], object], codes: set[CodeType]) -> tuple[float, dict]:
    """The same from Python 3.12 on, whose profiler mixes up what several threads do."""
    watch, tool = sys.monitoring, sys.monitoring.PROFILER_ID
    events, thread = watch.events, threading.get_ident()
    open_, seconds = {code: [] for code in codes}, dict.fromkeys(codes, 0.0)

    def enter(code: CodeType, *_) -> None:
        if threading.get_ident() == thread:
            open_[code].append(time.perf_counter())

    def leave(code: CodeType, *_) -> None:
        if threading.get_ident() == thread and open_[code]:
            begin = open_[code].pop()
            if not open_[code]:  # within itself a function counts once
                seconds[code] += time.perf_counter() - begin

    called = {events.PY_START: enter, events.PY_RESUME: enter}
    called |= {events.PY_RETURN: leave, events.PY_YIELD: leave}
    watch.use_tool_id(tool, "sccodec bench")
    try:
        for event, function in called.items():
            watch.register_callback(tool, event, function)
        for code in codes:
            watch.set_local_events(tool, code, sum(called))
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin, seconds
    finally:
        for code in codes:
            watch.set_local_events(tool, code, events.NO_EVENTS)
        for event in called:
            watch.register_callback(tool, event, None)
        watch.free_tool_id(tool)


# -- whole processes ----------------------------------------------------------------------------


def whole_process(path: str, name: str, megapixels: float, threads: int, repeat: int) -> dict:
    """Median seconds and peak memory of `python -m sccodec.evaluate.once`, from start to end.

    It reads a PNG, encodes it and writes the file, or the other way round.
    """
    with tempfile.TemporaryDirectory() as folder:
        png, coded, back = (str(Path(folder) / n) for n in ("in.png", "coded", "back.png"))
        image.write(image.from_array(scene(path, megapixels)), png)
        facts = {}
        for direction, files in (("encode", (png, coded)), ("decode", (coded, back))):
            command = [sys.executable, "-m", "sccodec.evaluate.once", direction, name]
            seconds, peaks = [], []
            for _ in range(repeat):
                begin = time.perf_counter()
                done = subprocess.run([*command, str(threads), *files], capture_output=True)
                seconds.append(time.perf_counter() - begin)
                if done.returncode:
                    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                    raise CodecError(f"{name}: {direction} in its own process failed: {last}")
                peaks.append(json.loads(done.stdout)["peak"])
            facts[f"process_{direction}_s"] = median(seconds)
            facts[f"process_{direction}_peak"] = None if None in peaks else max(peaks)
        return facts
