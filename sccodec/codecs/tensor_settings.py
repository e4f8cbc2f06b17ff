"""How to encode tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from sccodec.codecs.tensor_grid import AUTO, TILE
from sccodec.container.rules import MAX_NAMED_LAYERS, Limits
from sccodec.container.tensors import CODERS, MOST_LEVELS
from sccodec.errors import BadRequest

if TYPE_CHECKING:
    from sccodec.codecs.calibration import Calibration

CLIPS = ("model", "moments", "minmax")
QUANTISERS = ("uniform", "entropy-constrained", "dead-zone")
NONFINITE = ("refuse", "clamp")
DEFAULT_LEVELS = 4


@dataclass(frozen=True)
class Settings:
    """At most one of rate, levels, max_abs_error, max_bytes and calibration; default 4 levels.

    A calibration of bases needs a rate or max_bytes beside it.
    """

    rate: float | None = None  # bits per element of the whole file
    levels: int | tuple[int, ...] | None = None  # of the finest layer, or of all, coarse to fine
    max_abs_error: float | None = None  # of every element; nothing is clipped
    max_bytes: int | None = None  # of the whole file
    calibration: Calibration | None = None  # quantisers or bases that were fitted before
    layers: int | None = None  # how many, if `levels` does not say so; default 1
    channelwise: bool = False  # fit and scale the clipping range for each channel
    clip: str | tuple[float, float] = "model"  # see CLIPS, or two numbers
    quantiser: str | None = None  # see QUANTISERS; None: dead-zone for rate and max_bytes
    coder: str = "context"  # or "unary", the papers' binarisation: slower and longer
    # For rate and max_bytes: count each channel from its mean, move values by their neighbours,
    # and code a cosine transform of planes; None: if it pays.
    offsets: bool | None = None
    filter: bool | None = None
    transform: bool | None = None
    slope: float | None = None  # of the rectifier below 0; None: 0 or 0.1, as the values say
    channel_axis: int | str | None = AUTO
    tile: int = TILE  # elements, a multiple of 64
    nonfinite: str = "refuse"  # or "clamp": NaN becomes 0, infinities the nearest finite value
    check: bool = True  # decode what is about to be written: 2/5 of the time at given levels
    jobs: int = 1
    limits: Limits | None = None  # default: those of the environment

    def __post_init__(self):
        names = ("rate", "levels", "max_abs_error", "max_bytes", "calibration")
        given = [name for name in names if getattr(self, name) is not None]
        if self.calibration is not None and self.calibration.bases:
            given.remove("calibration")
            if not self.sized or self.transform is False:
                raise BadRequest("a basis needs a rate or max_bytes, and a transform")
        if len(given) > 1:
            raise BadRequest(f"{' and '.join(given)} exclude each other")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise BadRequest(f"a rate of {self.rate} bits per element makes no sense")
        if self.max_abs_error is not None and not 0 <= self.max_abs_error < math.inf:
            raise BadRequest(f"an error of {self.max_abs_error} makes no sense")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise BadRequest("a file has at least one byte")
        for name, known in (
            ("quantiser", (None, *QUANTISERS)),
            ("coder", CODERS),
            ("nonfinite", NONFINITE),
        ):
            if getattr(self, name) not in known:
                raise BadRequest(
                    f"{name} {getattr(self, name)!r}, known are {', '.join(filter(None, known))}"
                )
        for name in ("offsets", "filter", "transform"):
            if getattr(self, name) and not self.sized:
                raise BadRequest(f"{name} needs a rate or max_bytes")
        if self.quantiser == "dead-zone" and not self.sized:
            raise BadRequest("quantisers with a dead zone need a rate or max_bytes")
        if self.slope is not None and not 0 <= self.slope <= 1:
            raise BadRequest(f"a slope of {self.slope} below 0 is not within 0..1")
        self._check_levels()
        self._check_clip()
        if self.tile < 64 or self.tile % 64:
            raise BadRequest(f"a tile of {self.tile} elements is not a multiple of 64")

    def _check_levels(self) -> None:
        counts = self.counts
        if any(not 2 <= count <= MOST_LEVELS for count in counts):
            raise BadRequest(f"levels {self.levels}, not within 2..{MOST_LEVELS}")
        if len(counts) > 1 and self.layers not in (None, len(counts)):
            raise BadRequest(f"{self.layers} layers, but {len(counts)} numbers of levels")
        layers = self.layer_count if self.layers is None else self.layers
        if not 1 <= layers <= MAX_NAMED_LAYERS:
            raise BadRequest(f"{layers} layers, not within 1..{MAX_NAMED_LAYERS}")

    def _check_clip(self) -> None:
        if isinstance(self.clip, str):
            if self.clip not in CLIPS:
                raise BadRequest(
                    f"clip {self.clip!r}, known are {', '.join(CLIPS)} and two numbers"
                )
            return
        low, high = self.clip
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise BadRequest(f"clip from {low} to {high} makes no sense")

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of levels as they were given, coarse to fine."""
        if self.levels is None:
            return ()
        return (int(self.levels),) if isinstance(self.levels, Integral) else tuple(self.levels)

    @property
    def kind(self) -> str:
        """The kind of quantiser that these settings lead to."""
        if self.quantiser is not None:
            return self.quantiser
        return "dead-zone" if self.sized else "uniform"

    @property
    def sized(self) -> bool:
        """Whether the size is what was asked for."""
        return self.rate is not None or self.max_bytes is not None

    @property
    def layer_count(self) -> int:
        return max(self.layers or 1, len(self.counts))


DEFAULTS = Settings()
