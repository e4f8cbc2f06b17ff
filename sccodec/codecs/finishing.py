"""Fits what each tile adds to the finish of its synthesis, by least squares.

As with the adaptive loop filters of video codecs: the encoder decodes what it has coded, finds
the filter that brings it nearest to the original, and sends it where that pays.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from sccodec.codecs.canvas import Latents, canvas
from sccodec.codecs.payloads import Coded, TileCoder
from sccodec.codecs.tiles import Box, Grid
from sccodec.latents.corrections import (
    LONGEST,
    NONE,
    STRAIGHT,
    Numbers,
    pack,
    rice_bits,
    size,
    unpack,
)
from sccodec.latents.worth import LAMBDA
from sccodec.media.image import Picture
from sccodec.spans import Span
from sccodec.transform.finish import AROUND, Rectangle
from sccodec.transform.graphs import LATENT

CORRECTED = 4  # effort from which each tile's finish is corrected
SWEEPS = 3
FINEST = 12  # unit of numbers: 2^-FINEST at least


def correct(coder: TileCoder, coded: Coded, known: Latents, picture: Picture, jobs: int) -> Coded:
    """The same parts, with corrections in front where they save more than they take.

    `known` is what a decoder knows of them, and has the corrections from then on.
    """
    coded = [list(parts) for parts in coded]
    for (tile, n), front in corrections(coder, known, picture, jobs).items():
        coded[tile][n] = replace(coded[tile][n], front=front)
    return coded


def corrections(
    coder: TileCoder, latents: Latents, picture: Picture, jobs: int
) -> dict[tuple[int, int], bytes]:
    """What to put in front of the payload of each (tile, layer) that has a finish.

    `latents` have it from then on.
    """
    found = {
        (tile, n): fit(normal, LAMBDA / 3, plan.bends)
        for n, plan in enumerate(coder.model.layers)
        if plan.finish
        for tile, normal in _normals(coder, latents, n, picture, jobs).items()
    }
    for (tile, n), front in found.items():
        correction, _ = unpack(front, coder.model.layers[n].bends)
        latents.correct(n, coder.grid.latents(tile), correction)
    return found


@dataclass
class Normal:
    """Sums over pixels: features f (F,) and what three colours e (3,) lack after the finish.

    gram (F, F) of f f^T; target (F, 3) of f e^T; both in units of the step.
    """

    gram: np.ndarray
    target: np.ndarray


def _normals(
    coder: TileCoder, latents: Latents, layer: int, picture: Picture, jobs: int
) -> dict[int, Normal]:
    """The normal equations of each tile that has this layer; `latents` lose their corrections."""
    grid, bends = coder.grid, coder.model.layers[layer].bends
    none = coder.model.heads[layer].finish.none  # a correction, so that no tiles are merged
    latents.pieces[layer] = [(place, none) for place, _ in latents.pieces[layer]]
    sums: dict[int, dict[Rectangle, Normal]] = defaultdict(dict)
    lock = threading.Lock()

    def see(place: Rectangle, unit: float, found: dict) -> None:
        left, top = place[0] * LATENT, place[1] * LATENT
        height = min(place[3] * LATENT, picture.height) - top
        width = min(place[2] * LATENT, picture.width) - left
        if height <= 0 or width <= 0:
            return
        f = features(found["near"][0], found["bent"][0][:bends])[:, :height, :width]
        rows, columns = Span(0, 0, top, top + height), Span(0, 0, left, left + width)
        lacks = canvas(picture, rows, columns) - found["pixels"][0][:, :height, :width]
        f, lacks = f.reshape(len(f), -1), lacks.reshape(3, -1) / np.float32(unit)
        normal = Normal(f @ f.T, f @ lacks.T)
        with lock:
            sums[_tile_of(grid, place)][place] = normal

    whole = Box(0, 0, picture.width, picture.height)
    latents.each_window(layer, whole, picture, lambda *_: None, jobs, see)
    return {
        # In the order of places, so that the sums do not depend on which thread was first.
        tile: Normal(
            sum(np.float64(parts[place].gram) for place in sorted(parts)),
            sum(np.float64(parts[place].target) for place in sorted(parts)),
        )
        for tile, parts in sums.items()
        if layer in coder.layers(tile)
    }


def _tile_of(grid: Grid, place: Rectangle) -> int:
    return place[1] * LATENT // grid.tile * grid.columns + place[0] * LATENT // grid.tile


def features(near: np.ndarray, bent: np.ndarray) -> np.ndarray:
    """What a correction weighs, (K + 24, h, w) float32 in units of the step.

    near (3, h + 2 d, w + 2 d) and bent (K, h, w): outputs of the finish, d being the dilation of
    its last pass.
    """
    bends, height, width = bent.shape
    out = np.empty((bends + 3 * len(AROUND), height, width), np.float32)
    out[:bends] = bent
    d = (near.shape[1] - height) // 2
    inner = near[:, d:-d, d:-d]
    for n, (dy, dx) in enumerate(AROUND):
        beside = near[:, d + d * dy :, d + d * dx :][:, :height, :width]
        np.subtract(beside, inner, out=out[bends + n :: len(AROUND)])
    return out


def fit(normal: Normal, worth: float, bends: int) -> bytes:
    """The packed correction of the least bits + worth * squared error; NONE if none pays."""
    gram, target = normal.gram, normal.target
    power = gram.diagonal().copy()
    ridge = np.diag(1e-6 * power + 1e-6 * power.max(initial=1e-9))
    wanted = np.linalg.solve(gram + ridge, target).T  # (3, F)
    groups = (slice(0, bends), slice(bends, len(power)))
    units = np.array([_unit(power[group], worth) for group in groups])
    unit = np.repeat(units, [group.stop - group.start for group in groups])
    grain = np.ldexp(1.0, -unit)
    numbers = np.rint(wanted / grain).astype(np.int64)
    for _ in range(SWEEPS):
        rice = [Numbers(numbers[:, group], 0).rice for group in groups]
        _sweep(numbers, gram, target, grain, worth, np.repeat(rice, np.diff([0, bends, len(unit)])))
    mix = Numbers(numbers[:, groups[0]], int(units[0]))
    straight = Numbers(numbers[:, groups[1]].reshape(STRAIGHT), int(units[1]))
    real = numbers * grain
    saved = worth * float((2 * real * target.T - real * (real @ gram)).sum())
    if size(mix, straight) > 1 + LONGEST or saved <= 8 * (size(mix, straight) - len(NONE)):
        return NONE
    return pack(mix, straight)


def _unit(power: np.ndarray, worth: float) -> int:
    """Where an error of a rounded number costs what another bit for each number would."""
    grain = np.sqrt(6 / np.log(2) / max(worth * float(power.mean()), 1e-9))
    return int(np.clip(np.rint(-np.log2(grain)), 0, FINEST))


def _sweep(numbers, gram, target, grain, worth: float, rice: np.ndarray) -> None:
    """Chooses each number anew, given all others, of the nearest two and 0; in place."""
    # Plain numbers: for so few values arrays would take most of their time to begin.
    power, units, rices = gram.diagonal().tolist(), grain.tolist(), rice.tolist()
    for colour in range(3):
        rest = target[:, colour] - gram @ (numbers[colour] * grain)  # what is left to explain
        for n, was in enumerate(numbers[colour].tolist()):
            if power[n] <= 0:
                continue
            best = was + float(rest[n]) / power[n] / units[n]
            scale, k = worth * power[n] * units[n] ** 2, rices[n]
            costs = [
                (scale * (value - best) ** 2 + rice_bits(value, k), value)
                for value in (math.floor(best), math.ceil(best), 0)
            ]
            chosen = min(costs)[1]
            if chosen != was:
                rest -= gram[:, n] * ((chosen - was) * units[n])
                numbers[colour, n] = chosen
