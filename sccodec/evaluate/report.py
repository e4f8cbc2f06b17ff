"""The report of a run: CSV, JSON, plots as SVG, and one HTML page that needs no network."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from sccodec.container.writer import whole_file
from sccodec.evaluate.curves import MEASURES, Curve, Difference, bd_rate, mean_curve
from sccodec.evaluate.plots import Line, chart, colour_of
from sccodec.evaluate.rate import COLUMNS, of_codec

PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class View:
    """One picture as a slider shows it."""

    label: str
    pixels: np.ndarray  # (H, W, 3) uint8


@dataclass(frozen=True)
class Report:
    """Everything that a run found out; `write` puts it into a folder."""

    about: dict  # date, versions, machine, command
    codecs: list[dict]  # name, version, about, unit
    pictures: list[str]
    rows: list[dict]
    published: list[Curve]
    anchors: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[Curve]:
        """The mean curve of each codec."""
        return [
            mean_curve(c["name"], of_codec(self.rows, c["name"]), len(self.pictures))
            for c in self.codecs
        ]

    @property
    def curves(self) -> list[Curve]:
        return self.measured + self.published

    def differences(self, measure: str) -> dict[str, dict[str, Difference | None]]:
        """BD-rate of every curve against every anchor: {anchor: {codec: ...}}."""
        curves = {curve.name: curve.of(measure) for curve in self.curves}
        return {
            anchor: {
                name: bd_rate(curves[anchor], points)
                for name, points in curves.items()
                if name != anchor
            }
            for anchor in self.anchors
        }

    def facts(self) -> dict:
        """All figures as plain values."""
        return {
            **self.about,
            "codecs": self.codecs,
            "pictures": self.pictures,
            "points": self.rows,
            "means": {curve.name: curve.points for curve in self.measured},
            "published": {curve.name: curve.points for curve in self.published},
            "bd_rate": {
                measure: {
                    anchor: {name: d and asdict(d) for name, d in found.items()}
                    for anchor, found in self.differences(measure).items()
                }
                for measure in MEASURES
            },
            "notes": self.notes,
        }

    def write(self, folder: Path, sliders: list[tuple[str, list[View]]] = ()) -> list[str]:
        """points.csv, report.json, <measure>.svg and report.html; returns their names."""
        plots = {measure: self._plot(measure) for measure in MEASURES}
        texts = {
            "points.csv": _csv(self.rows),
            "report.json": json.dumps(self.facts(), indent=1, allow_nan=False) + "\n",
            **{f"{measure}.svg": plot + "\n" for measure, plot in plots.items() if plot},
            "report.html": self._page(plots, sliders),
        }
        for name, text in texts.items():
            with whole_file(folder / name, force=True) as out:
                out.write(text.encode())
        return list(texts)

    # -- parts of the page ----------------------------------------------------------------------

    def _plot(self, measure: str) -> str:
        lines = [
            Line(
                curve.name,
                tuple((x, y, f"{curve.name}\n{x:.4f} bpp\n{y:.3f}") for x, y in curve.of(measure)),
                curve.published,
            )
            for curve in self.curves
        ]
        colours = colour_of([line.name for line in lines])
        title = f"{MEASURES[measure]}: mean of {_count(len(self.pictures), 'picture')}"
        return chart(title, "bits per pixel", MEASURES[measure], lines, colours=colours)

    def _page(self, plots: dict[str, str], sliders: list[tuple[str, list[View]]]) -> str:
        parts = [
            "<h1>Rate and distortion</h1>",
            _facts_table(self.about),
            *(f"<p>{escape(note)}</p>" for note in self.notes),
            "<h2>Curves</h2><p>Dashed: published figures. A click on a name hides its curve.</p>",
            '<div class="plots">',
            *plots.values(),
            "</div>",
            "<h2>BD-rate</h2><p>Percent more bits than the anchor of the column takes for the same "
            "quality; less than zero is better.</p>",
            *(self._bd_table(measure) for measure in MEASURES),
            "<h2>Codecs</h2>",
            _table(
                ["codec", "version", "options", "setting"],
                [[c["name"], c["version"], c["about"], c["unit"]] for c in self.codecs],
            ),
            "<h2>Means</h2>",
            *(self._mean_table(curve) for curve in self.measured if curve.points),
            "<h2>Side by side</h2>" if sliders else "",
            *(_slider(title, views) for title, views in sliders),
            "<h2>Pictures</h2>",
            *(self._picture_table(name) for name in self.pictures),
        ]
        style, script = (PAGE / "report.css").read_text(), (PAGE / "report.js").read_text()
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            "<title>sccodec eval rd</title>"
            '<link rel="icon" href="data:,">'
            f"<style>\n{style}</style></head><body>\n"
            + "\n".join(parts)
            + f'\n<div id="tip"></div>\n<script>\n{script}</script>\n</body></html>\n'
        )

    def _bd_table(self, measure: str) -> str:
        found = self.differences(measure)
        names = [c.name for c in self.curves if any(found[a].get(c.name) for a in self.anchors)]
        if not names:
            return ""
        rows = [[name, *(percent(found[a].get(name)) for a in self.anchors)] for name in names]
        heads = [MEASURES[measure], *(f"vs {anchor}" for anchor in self.anchors)]
        return f'<div class="wide">{_table(heads, rows)}</div>'

    def _mean_table(self, curve: Curve) -> str:
        columns = ["setting", "bpp", *MEASURES]
        rows = [[number(point[key]) for key in columns] for point in curve.points]
        return f"<h3>{escape(curve.name)}</h3>" + _table(columns, rows)

    def _picture_table(self, name: str) -> str:
        rows = [r for r in self.rows if r["picture"] == name]
        columns = [c for c in COLUMNS[4:-3] if any(r[c] is not None for r in rows)]
        cells = [[number(row[column]) for column in columns] for row in rows]
        return (
            f'<details><summary>{escape(name)}</summary><div class="wide">'
            f"{_table(columns, cells)}</div></details>"
        )


def percent(difference: Difference | None) -> str:
    return "" if difference is None else f"{difference.percent:+.1f} %"


def number(value) -> str:
    """A figure for people: 4 digits that count, whole numbers in full."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("s" if n != 1 else "")


def _csv(rows: Iterable[dict]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _facts_table(facts: dict) -> str:
    flat = {
        f"{key} {inner}" if inner else key: value
        for key, values in facts.items()
        for inner, value in (values if isinstance(values, dict) else {"": values}).items()
    }
    return _table(["", ""], [[key, str(value)] for key, value in flat.items()])


def _slider(title: str, views: list[View]) -> str:
    data = json.dumps([{"label": v.label, "data": _embedded(v.pixels)} for v in views])
    data = data.replace("<", "\\u003c")  # a label must not end the script
    return (
        f'<div class="slider"><h3>{escape(title)}</h3>'
        '<div class="names"><select class="left" aria-label="left"></select>'
        '<select class="right" aria-label="right"></select></div>'
        '<div class="stage"><img class="left" alt="" draggable="false">'
        '<img class="right" alt="" draggable="false"><div class="bar"></div></div>'
        '<div><input type="range" min="0" max="100" step="0.1" value="50" aria-label="bar"></div>'
        f'<script type="application/json">{data}</script></div>'
    )


def _embedded(pixels: np.ndarray) -> str:
    """The pixels as they are, as a data address: WebP without loss."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
