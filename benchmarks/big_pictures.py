"""Memory and time of a large picture, and what one region of it costs.

    python benchmarks/big_pictures.py FOLDER --megapixels 12 [--jobs 1,2] [--effort 5]

The picture is a mosaic of those in FOLDER, each mirrored as chance has it, with noise of its own,
so that no two tiles are alike. Every figure is that of a whole `sccodec` process, its start
included: wall time, processor time, and peak memory (resident, as the system counts it) less the
3 bytes per pixel of the picture itself.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import sccodec

REGION = 512  # pixels along a side
REGIONS = 12  # at random places; worst and mean are told


def make_mosaic(folder: Path, megapixels: float, out: Path) -> tuple[int, int]:
    """Writes a PPM, a row of pictures at a time; returns width and height."""
    sources = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    if not sources:
        raise FileNotFoundError(f"no .png pictures in {folder}")
    sources = [a if a.shape[1] >= a.shape[0] else a.transpose(1, 0, 2) for a in sources]
    high, wide = (min(a.shape[axis] for a in sources) for axis in (0, 1))
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    width = round(megapixels * 1e6 / height)
    draw = np.random.default_rng(1)
    with open(out, "wb") as file:
        file.write(f"P6\n{width} {height}\n255\n".encode())
        for top in range(0, height, high):
            row = np.zeros((high, -(-width // wide) * wide, 3), np.float32)
            for left in range(0, width, wide):
                tile = sources[draw.integers(len(sources))][:high, :wide]
                flips = [slice(None, None, int(step)) for step in draw.choice((-1, 1), 2)]
                row[:, left : left + wide] = tile[flips[0], flips[1]]
            row += draw.normal(0, 1.5, row.shape).astype(np.float32)
            rows = np.clip(np.rint(row), 0, 255).astype(np.uint8)[: height - top, :width]
            file.write(rows.tobytes())
    return width, height


def run(*arguments: object) -> dict:
    """One sccodec process: seconds, processor seconds, peak bytes, and what --json printed."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "sccodec", *map(str, arguments), "--json", "--force"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        output.seek(0)
        facts = json.loads(output.read() or b"{}")
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    # Linux counts in KiB, macOS in bytes.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    times = {"seconds": round(seconds, 2), "processor": round(used.ru_utime + used.ru_stime, 2)}
    return {**times, "peak": peak, **facts}


def measure(folder: Path, megapixels: float, jobs: list[int], effort: int, place: Path) -> dict:
    source = place / "big.ppm"
    width, height = make_mosaic(folder, megapixels, source)
    pixels = width * height
    result: dict = {"width": width, "height": height, "jobs": jobs}
    for count in jobs:
        coded, decoded = place / f"{count}.scc", place / f"{count}.ppm"
        encode = "encode", source, "-o", coded, "-j", count, "-e", effort
        result[f"encode -e {effort} -j {count}"] = run(*encode)
        result[f"decode -j {count}"] = run("decode", coded, "-o", decoded, "-j", count)
    result["same bytes"] = all(
        filecmp.cmp(place / f"{jobs[0]}.{kind}", place / f"{count}.{kind}", shallow=False)
        for kind in ("scc", "ppm")
        for count in jobs
    )
    draw = random.Random(1)
    result["regions"] = []
    for _ in range(REGIONS):
        left, top = draw.randrange(width - REGION), draw.randrange(height - REGION)
        box = f"{left},{top},{REGION},{REGION}"
        small = place / "region.ppm"
        coded = place / f"{jobs[0]}.scc"
        found = run("decode", coded, "--region", box, "-o", small, "-j", jobs[0])
        result["regions"].append({"box": box, **found})
    for facts in [value for value in result.values() if isinstance(value, dict)]:
        facts["bytes per pixel"] = round((facts["peak"] - 3 * pixels) / pixels, 2)
    return result


def table(result: dict) -> str:
    pixels = result["width"] * result["height"]
    lines = [
        "| process | s | processor s | peak MB | bytes per pixel beyond the picture |",
        "|---|---|---|---|---|",
    ]
    for name, facts in result.items():
        if isinstance(facts, dict):
            each = f"{facts['bytes per pixel']:.1f}"
            times = f"{facts['seconds']} | {facts['processor']}"
            lines.append(f"| {name} | {times} | {facts['peak'] / 1e6:.0f} | {each} |")
    whole, regions = result[f"decode -j {result['jobs'][0]}"], result["regions"]
    lines.append(f"\nfile: {whole['bytes']} bytes, {8 * whole['bytes'] / pixels:.3f} bpp")
    lines.append(f"same bytes with any of -j {result['jobs']}: {result['same bytes']}")
    for name in ("seconds", "processor", "bytes_read"):
        shares = [region[name] / whole[name] for region in regions]
        lines.append(
            f"{len(regions)} regions of {REGION}x{REGION}, {name}, share of a whole decode: "
            f"mean {np.mean(shares):.2%}, worst {max(shares):.2%}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--jobs", default=f"1,{os.cpu_count()}", help="each is tried")
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--work", type=Path, help="where the files go; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as place:
        jobs = [int(count) for count in options.jobs.split(",")]
        result = measure(options.folder, options.megapixels, jobs, options.effort, Path(place))
    print(
        f"sccodec {sccodec.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {platform.machine()}, "
        f"{result['width']}x{result['height']} pixels"
    )
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
