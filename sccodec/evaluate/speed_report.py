"""The report of `sccodec bench`: bench.json, and bench.html with cost against size."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from sccodec.container.writer import whole_file
from sccodec.evaluate.page import count, facts_table, number, page, table
from sccodec.evaluate.plots import Line, chart, colour_of

MIB = 2**20

# Column of a row -> what a plot of it is called, and its unit.
PLOTS = {
    "encode_s": ("encoding, warm", "seconds", 1),
    "decode_s": ("decoding, warm", "seconds", 1),
    "encode_cpu_s": ("encoding, warm, all cores", "processor seconds", 1),
    "decode_cpu_s": ("decoding, warm, all cores", "processor seconds", 1),
    "encode_peak": ("encoding, warm: peak memory of the process", "MiB", MIB),
    "decode_peak": ("decoding, warm: peak memory of the process", "MiB", MIB),
    "process_encode_s": ("encoding, whole process", "seconds", 1),
    "process_decode_s": ("decoding, whole process", "seconds", 1),
    "process_encode_peak": ("encoding, whole process: peak memory", "MiB", MIB),
    "process_decode_peak": ("decoding, whole process: peak memory", "MiB", MIB),
}


def write(folder: Path, about: dict, rows: list[dict], notes: list[str]) -> list[str]:
    """Writes both files; returns their names."""
    names = [label(row) for row in rows]
    colours = colour_of(list(dict.fromkeys(names)))
    plots = [plot(column, rows, colours) for column in PLOTS]
    parts = [
        facts_table(about),
        *(f"<p>{escape(note)}</p>" for note in notes),
        "<h2>Cost against size</h2><p>Both axes are logarithmic. A click on a name hides it.</p>",
        '<div class="plots">',
        *plots,
        "</div>",
        "<h2>Stages</h2><p>Seconds of one run under a profiler, so a little slower than the "
        "medians.</p>",
        *(stage_table(row) for row in rows if "stages" in row),
        "<h2>Figures</h2>",
        f'<div class="wide">{table(*figures(rows))}</div>',
    ]
    texts = {
        "bench.json": json.dumps({**about, "notes": notes, "rows": rows}, indent=1) + "\n",
        "bench.html": page("Speed and memory", parts),
    }
    for name, text in texts.items():
        with whole_file(folder / name, force=True) as out:
            out.write(text.encode())
    return list(texts)


def label(row: dict) -> str:
    return f"{row['codec']}, {count(row['threads'], 'thread')}"


def plot(column: str, rows: list[dict], colours: dict[str, str]) -> str:
    title, unit, scale = PLOTS[column]
    lines = [
        Line(
            name,
            tuple(
                (r["megapixels"], r[column] / scale, words(r, column))
                for r in rows
                if label(r) == name and r.get(column)
            ),
        )
        for name in colours
    ]
    return chart(title, "megapixels", unit, lines, log_x=True, log_y=True, colours=colours)


def words(row: dict, column: str) -> str:
    _, unit, scale = PLOTS[column]
    value = row[column] / scale
    return f"{label(row)}\n{row['megapixels']:g} megapixels\n{value:.4g} {unit}"


def stage_table(row: dict) -> str:
    """Every stage of one row, in and out of the codec, in the order of the path."""
    files, encode, decode = row["files"], row["stages"]["encode"], row["stages"]["decode"]
    stages = [
        ("encode", "reading PNG", files["read_png_s"]),
        *(("encode", name, seconds) for name, seconds in encode.items()),
        ("encode", "writing file", files["write_coded_s"]),
        ("decode", "reading file", files["read_coded_s"]),
        *(("decode", name, seconds) for name, seconds in decode.items()),
        ("decode", "writing PNG", files["write_png_s"]),
    ]
    cells = [[direction, name, number(seconds)] for direction, name, seconds in stages]
    title = f"{label(row)}, {row['megapixels']:g} megapixels"
    return f"<h3>{escape(title)}</h3>" + table(["", "stage", "seconds"], cells)


def figures(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of all figures."""
    heads = ["codec", "megapixels", "bpp", "PSNR", *(f"{t}, {u}" for t, u, _ in PLOTS.values())]
    cells = [
        [
            label(row),
            f"{row['megapixels']:g}",
            number(row["bpp"]),
            number(row["psnr"]),
            *(
                "" if row.get(c) is None else number(row[c] / scale)
                for c, (_, _, scale) in PLOTS.items()
            ),
        ]
        for row in rows
    ]
    return heads, cells


def summary(rows: list[dict]) -> str:
    """The main figures for a terminal."""
    head = (
        "codec",
        "MP",
        "bpp",
        "PSNR",
        "enc s",
        "dec s",
        "enc cpu",
        "dec cpu",
        "enc MiB",
        "dec MiB",
    )
    columns = ("encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s")
    lines = [f"{head[0]:<18}" + "".join(f"{cell:>9}" for cell in head[1:])]
    for row in rows:
        cells = [f"{row['megapixels']:g}", f"{row['bpp']:.3f}", number(row["psnr"])]
        cells += [f"{row[column]:.3f}" for column in columns]
        peaks = [row["encode_peak"], row["decode_peak"]]
        cells += ["" if peak is None else f"{peak / MIB:.0f}" for peak in peaks]
        lines.append(f"{label(row):<18}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
