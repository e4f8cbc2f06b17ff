"""Runs a model's graphs with ONNX Runtime; pixels -> latents, whole or in windows.

A picture larger than one window is cut into windows that overlap, by a synthesis' whole receptive
field (its halo) and by most of an analysis', so that no seam appears and memory stays bounded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from sccodec.errors import CodecError, WrongModel
from sccodec.spans import Span, even
from sccodec.threads import ahead, each

LATENT = 16  # pixels along a side of one latent
HYPER = 64  # pixels along a side of one hyper-latent; canvases are multiples of it
# Pixels along a side of a window, about and without its halo. Of larger ones, what networks make at
# 1/8 leaves the caches: nearly twice as long for a latent at twice the side, and halos cost less.
WINDOW = 512
# Pixels around its window that an analysis sees at most: what lies further moves latents by about a
# hundredth of the finest steps in use, and a decoder never knows.
ENOUGH = 64  # a multiple of HYPER

# What a synthesis sees in place of the step where a layer's latents are missing.
ABSENT = -4.0


def step_plane(log2_step):
    """log2 of the step in the units that the syntheses see, about -1..1. Any array or number."""
    return log2_step / 4 - 0.5


def log2_of_plane(plane):
    """The inverse of `step_plane`."""
    return 4 * plane + 2


class Graph:
    """One ONNX graph of a model folder, loaded on first use."""

    def __init__(self, path: Path, halo: int, threads: int | None = None):
        """`halo`: receptive field in latents on each side; threads: None for all cores."""
        self.path, self.halo, self.threads = path, halo, threads
        self._lock, self._session = threading.Lock(), None

    @property
    def session(self):
        """Loaded once, whichever of several threads comes first; `run` is safe in all of them."""
        with self._lock:
            if self._session is None:
                self._session = self._load()
            return self._session

    def _load(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self.threads or os.cpu_count() or 1
        # Spinning threads steal the cores from the entropy path.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(
                self._source(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime has no error family of its own
            raise WrongModel(f"model graph {self.path.name} cannot be loaded: {error}") from None

    def _source(self) -> str | bytes:
        """The path, or what the file holds if the runtime, which takes UTF-8, has no such path."""
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            return self.path.read_bytes()
        return str(self.path)

    def load_ahead(self) -> None:
        """Begins to load the graph on another thread."""
        ahead(lambda: self.session)

    def run(
        self, wanted: Sequence[str] | None = None, *, last: bool = False, **inputs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The outputs by name, or those that are wanted; with `last`, gives memory back that
        another run would need."""
        try:
            wanted = wanted or [output.name for output in self.session.get_outputs()]
            values = self.session.run(wanted, inputs, _shrinking() if last else None)
        except Exception as error:
            raise CodecError(f"model graph {self.path.name} failed: {error}") from None
        return dict(zip(wanted, values, strict=True))


def _shrinking():
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


Window = tuple[Span, Span]  # rows, columns


def at_a_time(jobs: int) -> int:
    """Windows that are worked on at once: a graph uses all cores, as far as its work can be shared
    out, and on few of them one window after the other is faster."""
    return max(1, jobs // 4)


def analyse(
    graph: Graph,
    cut: Callable[[Span, Span], np.ndarray],
    height: int,
    width: int,
    jobs: int = 1,
) -> dict[str, np.ndarray]:
    """A canvas of `height` x `width` pixels, multiples of 64 -> every output by name,
    (C, H/16, W/16) for latents and (C, H/64, W/64) for hyper-latents, float32.

    cut(rows, columns) gives the canvas between the spans' outer ends, (3, h, w) float32 in
    -128..127; it is called once for each window, on `jobs` threads at most.
    """
    halo = min(-(-graph.halo * LATENT // HYPER) * HYPER, ENOUGH)
    windows = list(product(*(even(0, side, WINDOW, halo, side, HYPER) for side in (height, width))))
    result: dict[str, np.ndarray] = {}

    def work(window: Window) -> None:
        y, x = window
        found = graph.run(pixels=cut(y, x)[None], last=window == windows[-1])
        for name, value in found.items():
            unit = (y.outer_end - y.outer_begin) // value.shape[2]
            shape = (value.shape[1], height // unit, width // unit)
            whole = result.setdefault(name, np.empty(shape, np.float32))
            rows, columns = (
                slice(y.begin // unit, y.end // unit),
                slice(x.begin // unit, x.end // unit),
            )
            whole[:, rows, columns] = value[0][
                :,
                (y.begin - y.outer_begin) // unit : (y.end - y.outer_begin) // unit,
                (x.begin - x.outer_begin) // unit : (x.end - x.outer_begin) // unit,
            ]

    each(work, windows, at_a_time(jobs))
    return result
