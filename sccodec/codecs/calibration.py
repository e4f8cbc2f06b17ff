"""Quantisers that were fitted once, for tensors to come: `sccodec calibrate`, a JSON file."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from sccodec.codecs import tensor_design as designs
from sccodec.codecs.tensor_design import Design, Statistics
from sccodec.codecs.tensor_filters import open_ended
from sccodec.codecs.tensor_grid import Grid
from sccodec.codecs.tensor_payloads import gradings
from sccodec.codecs.tensor_settings import Settings
from sccodec.container import tensors
from sccodec.container.tensors import LevelFilter, TensorEntry
from sccodec.errors import BadRequest, CodecError
from sccodec.latents.scalar import Embedded, Quantiser
from sccodec.media.tensor import Tensor

FORMAT = 1
ANY = ""  # the entry for tensors that have no entry of their own


@dataclass(frozen=True, eq=False)
class Calibration:
    """Designs by tensor name; a single one, or that of "", serves every other tensor."""

    designs: dict[str, Design]

    def design(self, tensor: Tensor, grid: Grid) -> Design:
        """The design for a tensor. Raises BadRequest if there is none, or it does not fit."""
        found = self.designs.get(tensor.name) or self.designs.get(ANY)
        if found is None and len(self.designs) == 1:
            (found,) = self.designs.values()
        if found is None:
            raise BadRequest(
                f"the calibration has nothing for a tensor {tensor.name!r}, "
                f"only for {', '.join(sorted(self.designs))}"
            )
        if found.scales and len(found.scales) != grid.channels:
            raise BadRequest(
                f"tensor {tensor.name!r} has {grid.channels} channels, "
                f"its calibration {len(found.scales)}"
            )
        return replace(found, channel_axis=grid.channel_axis)

    def write(self, path: str | os.PathLike) -> None:
        Path(path).write_text(self.text())

    def text(self) -> str:
        """The JSON text."""
        tensors = {name: _plain(design) for name, design in self.designs.items()}
        return json.dumps({"format": FORMAT, "tensors": tensors}, indent=1) + "\n"

    @classmethod
    def read(cls, path: str | os.PathLike) -> Calibration:
        """Raises BadRequest for a file that is no calibration; OSError as `open` does."""
        try:
            facts = json.loads(Path(path).read_text())
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}, known is {FORMAT}")
            return cls({name: _design(entry) for name, entry in facts["tensors"].items()})
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, CodecError) as error:
            raise BadRequest(f"{os.fspath(path)}: no calibration: {error}") from None


def calibrate(groups: Iterable[Sequence[Tensor]], settings: Settings) -> Calibration:
    """Fits one design for each name over tensors of several files.

    settings: levels, or a rate, which then is that of the first file's tensors: their coded size
    tells how much contexts save. There are no offsets, which are those of one tensor's channels.
    Raises BadRequest as `encode` does.
    """
    from sccodec.codecs.tensor import design_for

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
            firsts.setdefault(tensor.name, tensor)
            stats[tensor.name] = designs.gather(tensor, settings, stats.get(tensor.name))
    if not stats:
        raise BadRequest("no tensors to calibrate with")
    fitted = {name: design_for(tensor, stats[name], settings) for name, tensor in firsts.items()}
    return Calibration({name: _for_others(design) for name, design in fitted.items()})


def _for_others(design: Design) -> Design:
    """Other tensors may have larger values than those of the calibration."""

    def opened(one: LevelFilter) -> LevelFilter:
        low, high = open_ended(one.low)
        return replace(one, low=low, high=high)

    return replace(design, filters=tuple(one and opened(one) for one in design.filters))


def _plain(design: Design) -> dict:
    embedded = design.embedded
    return {
        "layers": [
            {"limits": list(q.limits), "levels": len(q)}
            if q.limits is not None
            else {"levels": q.levels.tolist(), "thresholds": q.thresholds.tolist()}
            for q in embedded.quantisers
        ],
        "first": [first.tolist() for first in embedded.first],
        "scales": list(design.scales),
        "filters": [one and asdict(one) for one in design.filters],
    }


def _design(entry: dict) -> Design:
    quantisers = []
    for layer in entry["layers"]:
        if "limits" in layer:
            quantisers.append(Quantiser.uniform(*map(float, layer["limits"]), layer["levels"]))
        else:
            levels, thresholds = (np.array(layer[k], np.float64) for k in ("levels", "thresholds"))
            if not (np.isfinite(levels).all() and np.isfinite(thresholds).all()):
                raise ValueError("levels are not finite")
            quantisers.append(Quantiser(levels, thresholds))
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
    design = Design(embedded, None, bytes(entry["scales"]), filters=filters)
    # A file with this design must be one that decoders read.
    alone = TensorEntry("", "float32", (), None, gradings(design), embedded.children)
    tensors.unpack(tensors.pack([alone]))
    return design


def _filter(facts: dict) -> LevelFilter:
    return LevelFilter(**{**facts, "taps": tuple(map(tuple, facts["taps"]))})
