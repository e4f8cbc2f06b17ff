"""Measures the shipped model and writes the figures into docs/evaluation.md and docs/images.

    python benchmarks/evaluation.py PICTURES WORK [--published FILE] [--no-time] [--parts NAMES]

PICTURES is a folder of PNG files, WORK one for journals and reports: a second run measures only
what has changed since, such as the model. The figures are those of `sccodec eval rd`,
`sccodec eval layers` and `sccodec bench`, called with the settings below. The screenshot of the
slider needs Chromium and the playwright package; without them the old one stays.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

# As the command line has it, before NumPy is loaded; see sccodec/cli/__init__.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from sccodec import threads
from sccodec.evaluate import comparison, layers, machine, markdown, speed, speed_report
from sccodec.evaluate.curves import COSTS, MEASURES
from sccodec.evaluate.page import count, number
from sccodec.evaluate.report import Report, percent

DOCS = Path(__file__).parents[1] / "docs"
CODECS = ["scc", "scc:base", "jpeg", "webp", "jpeg2000", "htj2k", "avif", "jxl", "hevc"]
STEPS = [366, 346, 326, 306, 286, 266]  # 0.15 to 1.44 bits per pixel, as means over Kodak
LAYER_RATES = [0.5, 1.0]
SIZES = [0.1, 0.4, 1.5]
PUBLISHED = [
    "VTM",
    "AV1",
    "BPG",
    "JPEG2000",
    "JPEG",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018-mean-vbr",
    "cheng2020-anchor",
]
ANCHORS = ("jpeg", "webp", "avif", "scc")
JOBS = threads.cores()


def where(about: dict) -> str:
    """Date, version and machine class, with its load: nothing else should run beside clocks."""
    machine = about["machine"]
    return (
        f"{about['date']}, sccodec {about['sccodec']}. Machine: {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, load average {machine['load']}."
    )


def rd_text(report: Report) -> str:
    """Machine, versions, BD-rates and the mean curves."""
    names = sorted(picture["name"] for picture in report.pictures)  # `--show` moves one
    parts = [
        f"{len(names)} pictures, {names[0]} to {names[-1]}. {where(report.about)}",
        markdown.table(
            ["codec", "version", "options", "settings"],
            [[c["name"], c["version"], c["about"], c["unit"]] for c in report.codecs],
        ),
        "\n".join(f"* {note}" for note in report.notes),
    ]
    for measure in MEASURES:
        heads = f"mean of each picture's BD-rate, {MEASURES[measure]}"
        parts.append(_differences(report, heads, report.by_picture(measure)))
    for measure in MEASURES:
        heads = f"BD-rate of mean curves, {MEASURES[measure]}"
        parts.append(_differences(report, heads, report.differences(measure)))
    columns = [c for c in ("bpp", *MEASURES, *COSTS) if _has(report, c)]
    rows = [
        [curve.name, number(point["setting"]), *(number(point[c]) or "—" for c in columns)]
        for curve in report.measured
        for point in curve.points
    ]
    parts.append(markdown.table(["codec", "setting", *columns], rows))
    return "\n\n".join(filter(None, parts))


def _differences(report: Report, head: str, found: dict[str, dict]) -> str:
    rows = [
        [curve.name, *(percent(each.get(curve.name)) or "—" for each in found.values())]
        for curve in report.curves
        if any(each.get(curve.name) for each in found.values())
    ]
    return markdown.table([head, *(f"against {anchor}" for anchor in found)], rows)


def _has(report: Report, column: str) -> bool:
    return any(p[column] is not None for curve in report.measured for p in curve.points)


def bench_text(rows: list[dict], about: dict, repeat: int) -> str:
    parts = [
        f"Medians of {count(repeat, 'run')} in a warm process. {where(about)}",
        f"```text\n{speed_report.summary(rows)}\n```",
    ]
    for row in rows:
        if "stages" in row and row["megapixels"] == SIZES[-1]:
            cells = [
                [direction, stage, f"{seconds:.3f}"]
                for direction, found in row["stages"].items()
                for stage, seconds in found.items()
            ]
            title = f"Stages of {speed_report.label(row)}, {row['megapixels']:g} megapixels:"
            parts += [title, markdown.table(["", "stage", "seconds"], cells)]
    return "\n\n".join(parts)


def screenshot(report: Path, target: Path) -> None:
    """The first slider with the base on the left and the whole file on the right."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("no screenshot: playwright is not installed", file=sys.stderr)
        return
    from PIL import Image

    browser_path = os.environ.get("SCCODEC_BROWSER") or shutil.which("chromium")
    if browser_path is None:
        print("no screenshot: no Chromium is installed", file=sys.stderr)
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 560, "height": 800})
        tab.goto(report.resolve().as_uri())
        slider = tab.locator(".slider").first
        slider.locator("select.left").select_option("2")
        slider.locator("select.right").select_option("1")
        slider.locator("input").fill("45")
        for image in slider.locator("img").all():
            image.evaluate("image => image.decode()")
        slider.screenshot(path=target)
        browser.close()
    # 128 colours are enough to show what the page looks like, and keep the file small.
    Image.open(target).convert("RGB").quantize(128).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--published", help="JSON of published curves")
    parser.add_argument("--no-time", action="store_true", help="no seconds in the curves' table")
    parser.add_argument("--parts", default="rd,layers,bench", help="which of the three to measure")
    parser.add_argument("--first", type=int, help="only so many pictures, in the order of names")
    parser.add_argument("--repeat", type=int, default=3, help="runs behind each figure of bench")
    parser.add_argument("--show", help="the picture of the first slider, by name")
    options = parser.parse_args()
    paths = sorted(options.pictures.glob("*.png"))[: options.first]
    paths.sort(key=lambda path: path.name != options.show)
    images = [str(path) for path in paths]
    parts = {"rd": rd, "layers": by_layer, "bench": bench}
    for name in options.parts.split(","):
        markdown.put(DOCS / "evaluation.md", parts[name](images, options), name)


def tell(what: str, done: int, total: int) -> None:
    print(f"{what}: {done} of {total}", file=sys.stderr)


def rd(images: list[str], options: argparse.Namespace) -> str:
    plan = comparison.Plan(
        images,
        CODECS,
        [],
        options.published,
        PUBLISHED if options.published else None,
        list(ANCHORS),
        not options.no_time,
        3,
        JOBS,
        STEPS,
    )
    folder = options.work / "rd"
    report, _ = comparison.run(plan, folder, tell)
    (DOCS / "images").mkdir(exist_ok=True)
    shutil.copy(folder / "psnr.svg", DOCS / "images" / "rd.svg")
    screenshot(folder / "report.html", DOCS / "images" / "slider.png")
    return rd_text(report)


def by_layer(images: list[str], options: argparse.Namespace) -> str:
    plan = layers.Plan(images, LAYER_RATES, against=("scc", "jpeg", "webp"), jobs=JOBS)
    found = layers.run(plan, options.work / "layers", tell)
    layers.write(options.work / "layers", found)
    return layers.summary(found)


def bench(_images: list[str], options: argparse.Namespace) -> str:
    codecs = [codec for codec in CODECS if codec != "scc:base"]
    plan = speed.Plan(codecs, SIZES, sorted({1, JOBS}), repeat=options.repeat)
    rows, notes = speed.run(plan, options.work / "bench", tell)
    about = machine.about()
    speed_report.write(options.work / "bench", about, rows, notes)
    return bench_text(rows, about, options.repeat)


if __name__ == "__main__":
    main()
