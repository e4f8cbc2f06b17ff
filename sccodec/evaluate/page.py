"""One HTML page that needs no network: style, script, plots and pictures lie inside it."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

WEBP_SIDE = 16383  # pixels, the most that WebP holds
ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class View:
    """One picture as a slider shows it."""

    label: str
    pixels: np.ndarray  # (H, W, 3) uint8


def page(title: str, parts: list[str]) -> str:
    """The whole document; parts are HTML."""
    style, script = (ASSETS / "report.css").read_text(), (ASSETS / "report.js").read_text()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>\n{style}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(part for part in parts if part)
        + f'\n<div id="tip"></div>\n<script>\n{script}</script>\n</body></html>\n'
    )


def table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_table(facts: dict) -> str:
    flat = {
        f"{key} {inner}" if inner else key: value
        for key, values in facts.items()
        for inner, value in (values if isinstance(values, dict) else {"": values}).items()
    }
    return table(["", ""], [[key, str(value)] for key, value in flat.items()])


def number(value) -> str:
    """A figure for people: 4 digits that count, whole numbers in full."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)


def count(n: int, what: str) -> str:
    return f"{n} {what}" + ("s" if n != 1 else "")


def slider(title: str, views: list[View]) -> str:
    data = json.dumps([{"label": v.label, "data": embedded(v.pixels)} for v in views])
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


def embedded(pixels: np.ndarray) -> str:
    """The pixels as they are, as a data address: WebP without loss, PNG beyond its sides."""
    from PIL import Image

    out, kind = io.BytesIO(), "webp" if max(pixels.shape[:2]) <= WEBP_SIDE else "png"
    options = {"lossless": True, "method": 4} if kind == "webp" else {}
    Image.fromarray(pixels).save(out, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(out.getvalue()).decode()
