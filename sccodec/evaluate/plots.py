"""Line charts as SVG text: each point says its values, in a browser and to screen readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 58, 190, 34, 46  # margins; the right one holds the names

# Colours that stay apart for most kinds of colour vision, after Paul Tol's "bright" and "muted".
COLOURS = (
    *("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44"),
    *("#882255", "#999933", "#44aa99", "#332288", "#dd8822", "#777777"),
)


@dataclass(frozen=True)
class Line:
    """A named curve of (x, y, words) by rising x; words are shown at the point."""

    name: str
    points: tuple[tuple[float, float, str], ...]
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """From data to pixels along one direction, linear or logarithmic, with round ticks."""

    low: float
    high: float
    begin: float  # pixel of low
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        scale: Callable[[float], float] = math.log if self.log else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.begin + share * (self.end - self.begin)

    @property
    def ticks(self) -> list[float]:
        if self.log and len(marks := self._inside(self._decades())) > 1:
            return marks
        step = _round_step((self.high - self.low) / 7)
        first, last = math.ceil(self.low / step - 1e-9), int(1e-9 + self.high / step)
        return self._inside(i * step for i in range(first, last + 1))

    def _decades(self) -> list[float]:
        first = math.floor(math.log10(self.low))
        decades = range(first, math.ceil(math.log10(self.high)) + 1)
        wide = math.log10(self.high / self.low) > 2
        return [m * 10.0**d for d in decades for m in ((1,) if wide else (1, 2, 5))]

    def _inside(self, marks: Iterable[float]) -> list[float]:
        return [t for t in marks if self.low * 0.999999 <= t <= self.high * 1.000001]


def _round_step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999999)


def _axis(values: list[float], begin: float, end: float, log: bool) -> Axis:
    low, high = min(values), max(values)
    if log:
        return Axis(low / 1.15, high * 1.15, begin, end, True)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return Axis(low - margin, high + margin, begin, end)


def chart(
    title: str,
    x_name: str,
    y_name: str,
    lines: list[Line],
    *,
    log_x: bool = False,
    log_y: bool = False,
    colours: dict[str, str] | None = None,
) -> str:
    """One chart; lines without points are left out. Empty text if none has any."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    xs = [x for line in lines for x, _, _ in line.points]
    ys = [y for line in lines for _, y, _ in line.points]
    x_axis = _axis(xs, LEFT, WIDTH - RIGHT, log_x)
    y_axis = _axis(ys, HEIGHT - BOTTOM, TOP, log_y)
    colours = colours or colour_of([line.name for line in lines])
    height = max(HEIGHT, TOP + 18 * len(lines) + 20)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
        *_grid(x_axis, y_axis),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_name)}</text>",
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_name)}</text>',
    ]
    for n, line in enumerate(lines):
        parts += _drawn(line, colours[line.name], x_axis, y_axis)
        parts += _legend(line, colours[line.name], TOP + 6 + 18 * n)
    return "\n".join([*parts, "</svg>"])


def colour_of(names: list[str]) -> dict[str, str]:
    """A colour for each name; the same names in the same order get the same colours."""
    return {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    parts = []
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        parts.append(
            f'<path d="M{x:.1f} {y_axis.begin}V{y_axis.end}" stroke="#e4e4e4"/>'
            f'<text x="{x:.1f}" y="{y_axis.begin + 16}" text-anchor="middle">{tick:.4g}</text>'
        )
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts.append(
            f'<path d="M{x_axis.begin} {y:.1f}H{x_axis.end}" stroke="#e4e4e4"/>'
            f'<text x="{x_axis.begin - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        )
    return parts


def _drawn(line: Line, colour: str, x_axis: Axis, y_axis: Axis) -> list[str]:
    places = [(x_axis.at(x), y_axis.at(y), words) for x, y, words in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.4 if line.dashed else 3.4}">'
        f"<title>{escape(words)}</title></circle>"
        for x, y, words in places
    )
    return [
        f'<g data-line="{escape(line.name)}" fill="{colour}">'
        f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.7"{dash}/>{dots}</g>'
    ]


def _legend(line: Line, colour: str, y: float) -> list[str]:
    x = WIDTH - RIGHT + 14
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    return [
        f'<g data-name="{escape(line.name)}">'
        f'<rect x="{x}" y="{y - 9}" width="{RIGHT - 14}" height="18" fill="#ffffff"/>'
        f'<path d="M{x} {y}h22" stroke="{colour}" '
        f'stroke-width="2"{dash}/><text x="{x + 28}" y="{y + 4}">{escape(line.name)}</text></g>'
    ]
