"""Quantisers or bases fitted once, for tensors to come: `sccodec calibrate`, a JSON file."""

from __future__ import annotations

import base64
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from sccodec.codecs.tensor_design import Design
from sccodec.codecs.tensor_filters import open_ended
from sccodec.codecs.tensor_grid import Grid, Window
from sccodec.codecs.tensor_payloads import gradings
from sccodec.codecs.tensor_search import design_for
from sccodec.codecs.tensor_settings import Settings
from sccodec.codecs.tensor_statistics import Statistics, finite, gather, grid_of
from sccodec.container import tensors
from sccodec.container.tensors import LevelFilter, TensorEntry
from sccodec.errors import SENSELESS_JSON, BadRequest, CodecError
from sccodec.latents.basis import MOST_CHANNELS, Basis, Covariance
from sccodec.latents.scalar import Embedded, Quantiser
from sccodec.media.tensor import Tensor

FORMAT = 1
ANY = ""  # the entry for tensors that have no entry of their own


@dataclass(frozen=True, eq=False)
class Calibration:
    """Designs or bases by tensor name; a single one, or that of "", serves every other tensor."""

    designs: dict[str, Design] = field(default_factory=dict)
    bases: dict[str, Basis] = field(default_factory=dict)

    def design(self, tensor: Tensor, grid: Grid) -> Design:
        """The design for a tensor. Raises BadRequest if there is none, or it does not fit."""
        found = _for(tensor, self.designs)
        if found.scales:
            _check_channels(tensor, grid, len(found.scales))
        return replace(found, channel_axis=grid.channel_axis)

    def basis(self, tensor: Tensor, grid: Grid) -> Basis:
        """The basis for a tensor's channels. Raises BadRequest as `design` does."""
        found = _for(tensor, self.bases)
        _check_channels(tensor, grid, found.channels)
        return found

    def of(self, digest: bytes) -> Basis | None:
        """The basis that a file names."""
        return next((basis for basis in self.bases.values() if basis.digest == digest), None)

    def write(self, path: str | os.PathLike) -> None:
        Path(path).write_text(self.text())

    def text(self) -> str:
        """The JSON text."""
        tensors = {name: _plain(design) for name, design in self.designs.items()}
        tensors |= {name: _plain_basis(basis) for name, basis in self.bases.items()}
        return json.dumps({"format": FORMAT, "tensors": tensors}, indent=1) + "\n"

    @classmethod
    def read(cls, path: str | os.PathLike) -> Calibration:
        """Raises BadRequest for a file that is no calibration; OSError as `open` does."""
        try:
            facts = json.loads(Path(path).read_text())
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}, known is {FORMAT}")
            entries = facts["tensors"].items()
            bases = {name: _basis(entry) for name, entry in entries if "matrix" in entry}
            designs = {name: _design(entry) for name, entry in entries if name not in bases}
            if bases and designs:
                raise ValueError("quantisers and bases")
            return cls(designs, bases)
        except (*SENSELESS_JSON, struct.error, CodecError) as error:
            raise BadRequest(f"{os.fspath(path)}: no calibration: {error}") from None


Fitted = TypeVar("Fitted")


def _for(tensor: Tensor, fitted: Mapping[str, Fitted]) -> Fitted:
    found = fitted.get(tensor.name) or fitted.get(ANY)
    if found is None and len(fitted) == 1:
        (found,) = fitted.values()
    if found is None:
        raise BadRequest(
            f"the calibration has nothing for a tensor {tensor.name!r}, "
            f"only for {', '.join(sorted(fitted))}"
        )
    return found


def _check_channels(tensor: Tensor, grid: Grid, count: int) -> None:
    if count != grid.channels:
        raise BadRequest(f"{tensor.called} has {grid.channels} channels, its calibration {count}")


def calibrate(groups: Iterable[Sequence[Tensor]], settings: Settings) -> Calibration:
    """Fits one design for each name over tensors of several files.

    settings: levels, or a rate, which then is that of the first file's tensors: their coded size
    tells how much contexts save. There are no offsets, which are those of one tensor's channels.
    Raises BadRequest as `encode` does.
    """
    if settings.max_bytes is not None or settings.max_abs_error is not None:
        raise BadRequest("a calibration is fitted for levels or a rate")
    if settings.offsets:
        raise BadRequest("offsets are those of one tensor, so a calibration has none")
    if settings.transform:
        raise BadRequest("a calibration has quantisers of values, and no transform")
    settings = replace(settings, offsets=False, transform=False)
    stats: dict[str, Statistics] = {}
    firsts: dict[str, Tensor] = {}
    for group in groups:
        for tensor in group:
            first = firsts.setdefault(tensor.name, tensor)
            if not first.values.size:
                first = firsts[tensor.name] = tensor
            if settings.channelwise:
                grids = [grid_of(one, settings) for one in (tensor, first)]
                _check_channels(tensor, grids[0], grids[1].channels)
            stats[tensor.name] = gather(tensor, settings, stats.get(tensor.name))
    if not stats:
        raise BadRequest("no tensors to calibrate with")
    fitted = {name: design_for(tensor, stats[name], settings) for name, tensor in firsts.items()}
    return Calibration({name: _for_others(design) for name, design in fitted.items()})


def calibrate_bases(groups: Iterable[Sequence[Tensor]], settings: Settings) -> Calibration:
    """Learns one basis of channels for each name from tensors of several files, in one pass.

    settings: channel_axis, nonfinite and tile alone count. Raises BadRequest for tensors without
    channels or with too many, and as `encode` does.
    """
    found: dict[str, Covariance] = {}
    for group in groups:
        for tensor in group:
            grid = grid_of(tensor, settings)
            if grid.channel_axis is None or not 2 <= grid.channels <= MOST_CHANNELS:
                raise BadRequest(
                    f"tensor {tensor.name!r} of shape {tensor.shape} has no basis: "
                    f"that of 2 to {MOST_CHANNELS} channels is learnt"
                )
            covariance = found.setdefault(tensor.name, Covariance(grid.channels))
            _check_channels(tensor, grid, len(covariance.total))
            item = math.prod(grid.canonical[1:])
            grid = replace(grid, tile=max(grid.tile, item), whole=True)
            window = Window(grid, tensor.values)
            for part in grid.parts:
                covariance.add(finite(window.get(part), tensor, settings))
    if not found:
        raise BadRequest("no tensors to calibrate with")
    return Calibration(bases={name: covariance.basis() for name, covariance in found.items()})


def _for_others(design: Design) -> Design:
    """Other tensors may have larger values than those of the calibration."""

    def opened(one: LevelFilter) -> LevelFilter:
        low, high = open_ended(one.low)
        return replace(one, low=low, high=high)

    return replace(design, filters=tuple(one and opened(one) for one in design.filters))


def _plain(design: Design) -> dict:
    embedded = design.embedded
    plain = {
        "layers": [_plain_quantiser(quantiser) for quantiser in embedded.quantisers],
        "first": [first.tolist() for first in embedded.first],
        "scales": list(design.scales),
        "filters": [one and asdict(one) for one in design.filters],
    }
    if design.coarser is not None:
        plain |= {"coarser": _plain_quantiser(design.coarser), "share": design.share}
    return plain


def _plain_quantiser(quantiser: Quantiser) -> dict:
    if quantiser.limits is not None:
        return {"limits": list(quantiser.limits), "levels": len(quantiser)}
    return {"levels": quantiser.levels.tolist(), "thresholds": quantiser.thresholds.tolist()}


def _plain_basis(basis: Basis) -> dict:
    arrays = {"mean": basis.mean.astype("<f4"), "matrix": basis.matrix.astype("<i2")}
    if basis.variances is not None:
        arrays["variances"] = basis.variances.astype("<f8")
    packed = {name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()}
    return {"channels": basis.channels, **packed}


def _basis(entry: dict) -> Basis:
    def array(name: str, kind: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(entry[name], validate=True), kind)

    count, mean, matrix = entry["channels"], array("mean", "<f4"), array("matrix", "<i2")
    if not (isinstance(count, int) and 2 <= count <= MOST_CHANNELS):
        raise ValueError(f"{count} channels")
    if mean.shape != (count,) or not np.isfinite(mean).all() or matrix.size != count**2:
        raise ValueError("a basis of other channels, or not finite")
    variances = None
    if "variances" in entry:
        variances = array("variances", "<f8").astype(np.float64)
        if variances.shape != (count,) or not (np.isfinite(variances) & (variances >= 0)).all():
            raise ValueError("variances of other channels, or none that may be")
    matrix = matrix.reshape(count, count).astype(np.int16)
    return Basis(mean.astype(np.float32), matrix, variances)


def _design(entry: dict) -> Design:
    quantisers = [_quantiser(layer) for layer in entry["layers"]]
    first = [np.array(cells, np.int64) for cells in entry["first"]]
    for cells, (coarse, fine) in zip(first, pairwise(quantisers), strict=True):
        grows = len(cells) == len(coarse) + 1 and (np.diff(cells) > 0).all()
        if not (grows and cells[0] == 0 and cells[-1] == len(fine)):
            raise ValueError("layers do not nest")
    if not quantisers:
        raise ValueError("no layers")
    filters = tuple(one and _filter(one) for one in entry.get("filters", ()))
    if filters and len(filters) != len(quantisers):
        raise ValueError(f"{len(filters)} filters for {len(quantisers)} quantisers")
    embedded = Embedded(tuple(quantisers), tuple(first))
    coarser = _quantiser(entry["coarser"]) if "coarser" in entry else None
    share = float(entry.get("share", 0))
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share}")
    design = Design(
        embedded, None, bytes(entry["scales"]), coarser=coarser, share=share, filters=filters
    )
    # A file with this design must be one that decoders read.
    alone = TensorEntry("", "float32", (), None, gradings(design), embedded.children)
    tensors.unpack(tensors.pack([alone]))
    return design


def _quantiser(facts: dict) -> Quantiser:
    if "limits" in facts:
        return Quantiser.uniform(*map(float, facts["limits"]), facts["levels"])
    levels, thresholds = (np.array(facts[name], np.float64) for name in ("levels", "thresholds"))
    if not (np.isfinite(levels).all() and np.isfinite(thresholds).all()):
        raise ValueError("levels are not finite")
    return Quantiser(levels, thresholds)


def _filter(facts: dict) -> LevelFilter:
    return LevelFilter(**{**facts, "taps": tuple(map(tuple, facts["taps"]))})
