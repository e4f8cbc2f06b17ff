"""One tensor on its way into a file: its design, and the payloads of its tiles."""

from __future__ import annotations

from dataclasses import dataclass, field

from sccodec.codecs import tensor_payloads as payloads
from sccodec.codecs.tensor_design import Design
from sccodec.codecs.tensor_grid import Grid, Part
from sccodec.codecs.tensor_payloads import Coded, Levels
from sccodec.codecs.tensor_settings import Settings
from sccodec.codecs.tensor_transform import Coefficients
from sccodec.container import tensors
from sccodec.container.tensors import TensorEntry
from sccodec.latents import blocks
from sccodec.media.tensor import Tensor
from sccodec.threads import Progress, each

MODEL = "tensor-1"  # in the header of a file


@dataclass
class Work:
    """One tensor on its way into a file."""

    tensor: Tensor
    grid: Grid
    design: Design
    # Where a search left what it found, of a tensor alone and in one tile: more would fill memory.
    source: Coefficients | None = None
    coded: list[list[Coded]] = field(default_factory=list)  # [tile][layer]

    @property
    def payload_bytes(self) -> int:
        return sum(len(one.payload) for tile in self.coded for one in tile)

    def entry(self, coder: str) -> TensorEntry:
        if self.design.transform is not None:
            return self._transformed()
        offsets = self.design.offsets
        return TensorEntry(
            name=self.tensor.name,
            kind=self.tensor.kind,
            shape=self.tensor.shape,
            channel_axis=self.design.channel_axis,
            layers=payloads.gradings(self.design),
            children=self.design.embedded.children,
            scales=self.design.scales,
            coder=coder,
            offset_unit=offsets.unit if offsets else 0,
            offsets=offsets.codes if offsets else (),
        )

    def _transformed(self) -> TensorEntry:
        return TensorEntry(
            name=self.tensor.name,
            kind=self.tensor.kind,
            shape=self.tensor.shape,
            channel_axis=self.design.channel_axis,
            layers=(),
            children=(),
            coder="transform",
            transform=self.design.transform,
        )


def code(
    works: list[Work], settings: Settings, progress: Progress | None = None, check: bool = True
) -> None:
    """Codes every tile of the works, on as many threads as the settings say.

    Only trials that are thrown away go without a `check` that settings ask for.
    """
    check = check and settings.check
    jobs = [(work, n) for work in works for n in range(len(work.grid.parts))]
    levels = {id(work): Levels(work.tensor, work.grid, work.design, settings) for work in works}

    def run(job: tuple[Work, int]) -> list[Coded]:
        work, n = job
        part = work.grid.parts[n]
        if work.design.transform is not None:
            return _code_transformed(work, part, settings, check)
        numbers = levels[id(work)].of(part)
        return payloads.code(numbers, work.design.embedded, settings.coder, check=check)

    done = each(run, jobs, settings.jobs, progress)
    for work in works:
        work.coded = []
    for (work, _), coded in zip(jobs, done, strict=True):
        work.coded.append(coded)


def _code_transformed(work: Work, part: Part, settings: Settings, check: bool) -> list[Coded]:
    transform = work.design.transform
    source = work.source
    if source is None:
        basis = settings.calibration.of(transform.basis) if transform.basis else None
        source = Coefficients(work.tensor, work.grid, settings, basis, transform.limits)
    layers = [source.chosen(part, transform, n)[1] for n in range(transform.layer_count)]
    shape = blocks.shape(part.shape, transform.block)
    return payloads.code_transformed(shape, [chosen.numbers for chosen in layers], check=check)


def entry_bytes(entry: TensorEntry) -> int:
    """Bytes that an entry takes in TENS."""
    return len(tensors.pack([entry])) - 2


def layer_name(index: int) -> str:
    return "base" if index == 0 else "enhancement" + (str(index) if index > 1 else "")
