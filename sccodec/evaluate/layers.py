"""What layers cost and give: bytes, quality, the price of scalability, stripping, region, damage.

All of it from one written file for each picture and rate, and a second one cut into tiles.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sccodec
from sccodec.container.writer import whole_file
from sccodec.errors import BadRequest
from sccodec.evaluate import adapters, machine, markdown, match, quality, rate
from sccodec.evaluate.adapters import Adapter
from sccodec.evaluate.journal import Journal
from sccodec.evaluate.pictures import load, originals
from sccodec.evaluate.quality import finite
from sccodec.profiles.registry import Model, find


@dataclass(frozen=True)
class Plan:
    """What a run is asked for; see `sccodec eval layers --help`."""

    images: list[str]
    rates: list[float]
    model: str = "photo"
    tile: int = 256  # pixels a side, for region and damage
    against: tuple[str, ...] = ("scc",)
    jobs: int = 1


def run(plan: Plan, folder: Path, progress: rate.Progress = lambda *_: None) -> list[dict]:
    """Facts for each picture and rate, in that order; a journal in `folder` keeps them."""
    rates = rate.check_rates(plan.rates)
    if plan.tile <= 0 or plan.tile % 64:
        raise BadRequest(f"a tile of {plan.tile} pixels is not a multiple of 64")
    model = find(plan.model)
    others = [rival(name, model) for name in plan.against]
    pictures = originals(plan.images)
    journal = Journal(folder)
    rate.check_journal(journal, pictures)
    versions = [
        f"{sccodec.__version__}, {model.id} {model.digest[:16]}",
        *(o.version for o in others),
    ]
    keys = {
        (p.digest, "layers", r, plan.tile, *plan.against, *versions): (p, r)
        for p in pictures
        for r in rates
    }
    tasks = [
        (key, facts, (picture.path, bpp, model.id, plan.tile, plan.against))
        for key, (picture, bpp) in keys.items()
        if not journal.facts(key)
    ]
    for key, found in rate.run_all(tasks, plan.jobs, progress, "layers measured"):
        journal.add(key, **found)
    return [
        {"picture": picture.name, "rate": bpp, "model": model.id, **journal.facts(key)}
        for key, (picture, bpp) in keys.items()
    ]


def rival(name: str, model: Model) -> Adapter:
    """The codec that each layer is held against; sccodec's own by step, since rates may not do, and
    `scc` with the model that is measured."""
    name = f"scc@{model.id}" if name == "scc" else name
    codec = adapters.scc_by_step(name) if name.startswith("scc") else adapters.find(name)
    if codec.lacking:
        raise BadRequest(f"{name} cannot run here: {codec.lacking}")
    return codec


def facts(path: str, bpp: float, model_id: str, tile: int, against: tuple[str, ...]) -> dict:
    """Everything about one picture at one rate; {"refused": why} if the rate cannot be met."""
    pixels, model = load(path), find(model_id)
    try:
        data = sccodec.encode(pixels, profile=model_id, rate=bpp)
        tiled = sccodec.encode(pixels, profile=model_id, rate=bpp, tile=tile)
    except BadRequest as error:
        return {"refused": str(error)}
    layers = [layer(model, n, data, pixels) for n in range(len(model.layers))]
    return {
        "bytes": len(data),
        "bpp": 8 * len(data) / (pixels.shape[0] * pixels.shape[1]),
        "frame_bytes": len(data) - sum(found["payload_bytes"] for found in layers),
        "layers": layers,
        "stripping": stripping(model, data),
        "price": {name: price(rival(name, model), pixels, layers) for name in against},
        "region": region(tiled, pixels, tile),
        "damage": [damage(tiled, n, pixels) for n in range(len(model.layers))],
    }


def layer(model: Model, n: int, data: bytes, pixels: np.ndarray) -> dict:
    """One layer: its payload, and the file and the picture that come of all layers up to it."""
    part = sccodec.extract(data, adapters.up_to(model, n))
    return {
        "name": model.layers[n].name,
        "payload_bytes": sum(place.length for place in sccodec.open(data).reader.ranges([n])),
        "file_bytes": len(part),
        "share": len(part) / len(data),
        **quality.measure(pixels, sccodec.decode(part)),
    }


def stripping(model: Model, data: bytes) -> dict:
    """Whether a stripped file gives the same pixels, and its parts the same file again."""
    base = sccodec.extract(data, model.layers[0].name)
    rest = sccodec.extract(data, [plan.name for plan in model.layers[1:]])
    same = np.array_equal(sccodec.decode(base), sccodec.decode(data, model.layers[0].name))
    return {
        "bytes_left": len(base),
        "rest_bytes": len(rest),
        "same_pixels": bool(same),
        "joined_back": sccodec.join(base, rest) == data,
    }


def price(other: Adapter, pixels: np.ndarray, layers: list[dict]) -> list[dict]:
    """For each layer: the bytes of `other`'s smallest file that is as good, in PSNR.

    `percent`: how many more bytes the layered file takes up to this layer. Where `met` is false
    the other codec's settings do not reach so low or so high, and the nearest end stands here.
    """
    found = []
    for row in layers:
        wanted = math.inf if row["psnr"] is None else row["psnr"]  # None: without loss
        try:
            file = match.smallest_as_good(other, pixels, wanted)
        except BadRequest as error:  # a side that a format cannot hold
            found.append({"layer": row["name"], "met": False, "refused": str(error)})
            continue
        percent = 100 * (row["file_bytes"] / len(file.data) - 1)
        found.append(
            {"layer": row["name"], "bytes": len(file.data), "percent": percent, "met": file.met}
        )
    return found


def region(data: bytes, pixels: np.ndarray, tile: int) -> dict:
    """Bytes read for the quarter at the top left, and how far its pixels are from the whole's."""
    height, width = pixels.shape[:2]
    w, h = max(width // 2, 1), max(height // 2, 1)
    whole = sccodec.decode(data)
    with sccodec.open(data) as file:
        part = file.decode(region=(0, 0, w, h))
        read = file.report.bytes_read
    difference = np.abs(part.astype(int) - whole[:h, :w])
    return {
        "tile": tile,
        "bytes": len(data),
        "psnr": finite(quality.psnr(pixels, whole)),
        "box": [0, 0, w, h],
        "bytes_read": read,
        "share_read": read / len(data),
        "largest_difference": int(difference.max()),
    }


def damage(data: bytes, n: int, pixels: np.ndarray) -> dict:
    """One bit of one payload of layer n, in the middle tile, is flipped: what the picture loses."""
    with sccodec.open(data) as file:
        places = file.reader.ranges([n])
        name = file.header.layer(n).name
    place = places[len(places) // 2]
    at = place.offset + place.length // 2
    broken = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
    shown, whole = sccodec.decode(broken, allow_partial=True), sccodec.decode(data)
    changed = (shown != whole).any(2)
    return {
        "layer": name,
        "tile": place.tile,
        "tiles": len(places),
        "pixels_changed": float(changed.mean()),
        "psnr": finite(quality.psnr(pixels, shown)),
        "psnr_whole": finite(quality.psnr(pixels, whole)),
    }


def write(folder: Path, rows: list[dict]) -> None:
    """layers.json: every figure, with date, versions and machine."""
    text = json.dumps({**machine.about(), "rows": rows}, indent=1, allow_nan=False)
    with whole_file(folder / "layers.json", force=True) as out:
        out.write(text.encode() + b"\n")


# -- words --------------------------------------------------------------------------------------


def summary(rows: list[dict]) -> str:
    """Means over pictures for each rate, as tables of Markdown. Refused rates are named."""
    parts = []
    for bpp in dict.fromkeys(row["rate"] for row in rows):
        group = [r for r in rows if r["rate"] == bpp]
        kept = [r for r in group if "refused" not in r]
        if kept:
            parts.append(_of_rate(bpp, kept))
        parts += [f"{r['picture']} at {bpp:g}: {r['refused']}" for r in group if "refused" in r]
    return "\n\n".join(parts)


def _of_rate(bpp: float, rows: list[dict]) -> str:
    def mean(figure) -> float:
        """Over pictures; infinite where one has no loss."""
        return float(np.mean([math.inf if (x := figure(row)) is None else x for row in rows]))

    others = list(rows[0]["price"])
    heads = ["layers up to", "share", "bpp", "PSNR", *(f"against {o} as good" for o in others)]
    layers = []
    for n, found in enumerate(rows[0]["layers"]):
        cells = [
            found["name"],
            f"{mean(lambda r, n=n: r['layers'][n]['share']):.0%}",
            f"{mean(lambda r, n=n: r['bpp'] * r['layers'][n]['share']):.4f}",
            f"{mean(lambda r, n=n: r['layers'][n]['psnr']):.2f}",
            *(_ratio([r["price"][other][n] for r in rows]) for other in others),
        ]
        layers.append(cells)
    whole = sum(r["stripping"]["same_pixels"] and r["stripping"]["joined_back"] for r in rows)
    lines = [
        f"{bpp:g} bits per pixel, mean of {len(rows)}:",
        "",
        markdown.table(heads, layers),
        "",
        f"* stripped and joined back to the same bytes: {whole} of {len(rows)}",
        f"* a quarter reads {mean(lambda r: r['region']['share_read']):.0%} of a file of that rate "
        f"with tiles of {rows[0]['region']['tile']} pixels; the whole picture from it has "
        f"{mean(lambda r: r['region']['psnr']):.2f} dB",
    ]
    for n, found in enumerate(rows[0]["damage"]):
        lines.append(
            f"* one flipped bit in {found['layer']}: "
            f"{mean(lambda r, n=n: r['damage'][n]['pixels_changed']):.0%} of the pixels change, "
            f"{mean(lambda r, n=n: r['damage'][n]['psnr_whole']):.2f} -> "
            f"{mean(lambda r, n=n: r['damage'][n]['psnr']):.2f} dB"
        )
    return "\n".join(lines)


def _ratio(found: list[dict]) -> str:
    """How many percent our bytes are above another's, and in how many cases that was measured."""
    met = [f["percent"] for f in found if f["met"]]
    refused = "refused" if all("refused" in f for f in found) else "out of reach"
    words = f"{np.mean(met):+.1f} %" if met else refused
    return words if len(met) in (0, len(found)) else f"{words} ({len(met)} of {len(found)})"
