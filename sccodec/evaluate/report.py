"""The report of a run: CSV, JSON, plots as SVG, and one HTML page that needs no network."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path

from sccodec.container.writer import whole_file
from sccodec.evaluate.curves import (
    COSTS,
    MEASURES,
    Curve,
    Difference,
    MeanDifference,
    bd_rate,
    mean_bd_rate,
    mean_curve,
)
from sccodec.evaluate.page import View, count, facts_table, number, page, slider, table
from sccodec.evaluate.plots import Line, chart, colour_of
from sccodec.evaluate.rate import COLUMNS, of_codec


@dataclass(frozen=True)
class Report:
    """Everything that a run found out; `write` puts it into a folder."""

    about: dict  # date, versions, machine, command
    codecs: list[dict]  # name, version, about, unit
    pictures: list[dict]  # name, digest
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

    def by_picture(self, measure: str) -> dict[str, dict[str, MeanDifference | None]]:
        """The mean of pictures' BD-rates, of measured codecs alone: {anchor: {codec: ...}}."""
        return self._by_picture[measure]

    @cached_property
    def _by_picture(self) -> dict[str, dict[str, dict[str, MeanDifference | None]]]:
        """By measure. Kept, since JSON, page and summary all tell it and it takes seconds."""
        rows = {codec["name"]: of_codec(self.rows, codec["name"]) for codec in self.codecs}
        return {
            measure: {
                anchor: {
                    name: mean_bd_rate(rows[anchor], rows[name], measure, len(self.pictures))
                    for name in rows
                    if name != anchor
                }
                for anchor in self.anchors
                if anchor in rows
            }
            for measure in MEASURES
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
            "bd_rate": {m: _plain(self.differences(m)) for m in MEASURES},
            "bd_rate_by_picture": {m: _plain(self.by_picture(m)) for m in MEASURES},
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
        """Up to rates somewhat above the first codec's; the tables have all."""
        curves = self.curves
        most = 1.4 * max((p["bpp"] for p in curves[0].points), default=math.inf)
        lines = [
            Line(
                curve.name,
                tuple(
                    (x, y, f"{curve.name}\n{x:.4f} bpp\n{y:.3f}")
                    for x, y in curve.of(measure)
                    if x <= most
                ),
                curve.published,
            )
            for curve in curves
        ]
        colours = colour_of([line.name for line in lines])
        title = f"{MEASURES[measure]}: mean of {count(len(self.pictures), 'picture')}"
        return chart(title, "bits per pixel", MEASURES[measure], lines, colours=colours)

    def _page(self, plots: dict[str, str], sliders: list[tuple[str, list[View]]]) -> str:
        parts = [
            facts_table(self.about),
            *(f"<p>{escape(note)}</p>" for note in self.notes),
            "<h2>Curves</h2><p>Dashed: published figures. A click on a name hides its curve.</p>",
            '<div class="plots">',
            *plots.values(),
            "</div>",
            "<h2>BD-rate</h2><p>Percent more bits than the anchor of the column takes for the same "
            "quality; less than zero is better.</p>",
            "<h3>Mean of each picture's own</h3>",
            *(self._bd_table(measure, self.by_picture(measure)) for measure in MEASURES),
            "<h3>Of the mean curves</h3><p>Only curves whose settings are of one kind compare: "
            "a rate for every picture, or a quality.</p>",
            *(self._bd_table(measure, self.differences(measure)) for measure in MEASURES),
            "<h2>Codecs</h2>",
            table(
                ["codec", "version", "options", "setting"],
                [[c["name"], c["version"], c["about"], c["unit"]] for c in self.codecs],
            ),
            "<h2>Means</h2>",
            *(self._mean_table(curve) for curve in self.measured if curve.points),
            "<h2>Side by side</h2>" if sliders else "",
            *(slider(title, views) for title, views in sliders),
            "<h2>Pictures</h2>",
            *(self._picture_table(picture) for picture in self.pictures),
        ]
        return page("Rate and distortion", parts)

    def _bd_table(self, measure: str, found: dict[str, dict]) -> str:
        names = [c.name for c in self.curves if any(d.get(c.name) for d in found.values())]
        if not names:
            return ""
        rows = [[name, *(percent(d.get(name)) for d in found.values())] for name in names]
        heads = [MEASURES[measure], *(f"vs {anchor}" for anchor in found)]
        return f'<div class="wide">{table(heads, rows)}</div>'

    def _mean_table(self, curve: Curve) -> str:
        columns = ["setting", "bpp", *MEASURES, *COSTS]
        columns = [c for c in columns if any(p[c] is not None for p in curve.points)]
        rows = [[number(point[key]) for key in columns] for point in curve.points]
        return f"<h3>{escape(curve.name)}</h3>" + table(columns, rows)

    def _picture_table(self, picture: dict) -> str:
        rows = [r for r in self.rows if r["digest"] == picture["digest"]]
        columns = [c for c in COLUMNS[4:-3] if any(r[c] is not None for r in rows)]
        cells = [[number(row[column]) for column in columns] for row in rows]
        name = escape(picture["name"])
        return (
            f'<details><summary>{name}</summary><div class="wide">{table(columns, cells)}</div>'
            "</details>"
        )


def _plain(differences: dict[str, dict]) -> dict[str, dict]:
    """{anchor: {codec: ...}} with dicts in place of dataclasses."""
    return {
        anchor: {name: d and asdict(d) for name, d in found.items()}
        for anchor, found in differences.items()
    }


def percent(difference: Difference | MeanDifference | None) -> str:
    """`-12.3 %`, and of how many pictures where that is not all of them."""
    if difference is None:
        return ""
    text = f"{difference.percent:+.1f} %"
    if isinstance(difference, MeanDifference) and difference.pictures < difference.of:
        text += f" ({difference.pictures} of {difference.of})"
    return text


def _csv(rows: Iterable[dict]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
