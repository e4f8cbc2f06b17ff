"""Accuracy of split networks against bits per element of the feature files between their parts.

    python benchmarks/feature_accuracy.py measure RESULTS.json --imagenet DIR --coco DIR --yolo DIR
    python benchmarks/feature_accuracy.py report RESULTS.json [--page docs/features.md]

`measure` cuts EfficientNet-Lite0 (DIR: pictures with labels.json) and YOLOv3-tiny (DIR: COCO
pictures in val2017/ with one *.json; DIR: yolov3-tiny.cfg and .weights), codes the features of
every picture as a file of its own, decodes it and runs the rest of the network. Picture codecs
code the same tensors at the same rates. With both networks' pictures, each network's channels also
get a basis, learnt from the other one's. What RESULTS.json already holds is not measured again.
`report` prints tables, or writes them and a plot into a page.

Needs the extras `eval` and `train`; docs/features.md says where the weights come from.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

import sccodec
from sccodec.codecs.calibration import Calibration, calibrate_bases
from sccodec.codecs.tensor_settings import Settings
from sccodec.evaluate import (
    classification,
    darknet,
    detection,
    efficientnet,
    machine,
    markdown,
    plots,
)
from sccodec.evaluate.anchors import ANCHORS
from sccodec.evaluate.split import SplitNetwork, in_batches, prepared, relative_error
from sccodec.media.tensor import from_array

SPLITS = {
    "EfficientNet-Lite0": [
        "stem",
        "block 2",
        "block 4",
        "block 5 expand",
        "block 10",
        "block 11 expand",
        "top",
    ],
    "YOLOv3-tiny": ["layer 8"],
}
OURS = {"sccodec": "**sccodec**", "sccodec-basis": "**sccodec**, basis"}
EXAMPLES = 100  # pictures that a basis is learnt from
PACKAGES = ["numpy", "torch", "pycocotools", "av", "imagecodecs", "pillow"]


# -- tasks -----------------------------------------------------------------------------------


@dataclass(eq=False)
class Classification:
    """Top-1 accuracy; agreement is the share of pictures with the uncoded network's class."""

    network: SplitNetwork
    inputs: np.ndarray
    labels: np.ndarray
    examples: np.ndarray | None  # other pictures
    title: str = "EfficientNet-Lite0"
    measure: str = "top-1"

    def judge(self, logits: np.ndarray, reference: np.ndarray) -> dict:
        return {
            "accuracy": classification.top1(logits, self.labels),
            "agreement": classification.top1(logits, reference.argmax(1)),
            "output error": relative_error(logits, reference),
        }


@dataclass(eq=False)
class Detection:
    """mAP at 0.5; agreement is the mAP with the uncoded network's boxes for the truth."""

    network: SplitNetwork
    dataset: detection.Dataset
    examples: np.ndarray | None
    title: str = "YOLOv3-tiny"
    measure: str = "mAP@0.5"

    @property
    def inputs(self) -> np.ndarray:
        return self.dataset.inputs

    def judge(self, boxes: np.ndarray, reference: np.ndarray) -> dict:
        found, expected = (detection.detections(b, self.dataset) for b in (boxes, reference))
        return {
            "accuracy": detection.average_precision(found, self.dataset),
            "agreement": detection.agreement(found, expected, self.dataset),
        }


def tasks(options: argparse.Namespace) -> Iterator[Classification | Detection]:
    pictures = options.coco and options.coco / "val2017"
    if options.imagenet:
        inputs, labels = classification.read_folder(options.imagenet, options.pictures)
        examples = examples_of(pictures, classification.preprocess)
        yield Classification(efficientnet.load(options.efficientnet), inputs, labels, examples)
    if options.coco and options.yolo:
        network = darknet.load_yolov3_tiny(options.yolo)
        (annotations,) = options.coco.glob("*.json")
        size = network.size[0]
        dataset = detection.read_coco(annotations, pictures, size, options.pictures)
        examples = examples_of(options.imagenet, lambda each: detection.letterbox(each, size))
        yield Detection(network, dataset, examples)


def examples_of(folder: Path | None, prepare: Callable) -> np.ndarray | None:
    """The first pictures of a folder as a network takes them; None without a folder."""
    if folder is None:
        return None
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return prepared(paths[:EXAMPLES], prepare)


# -- measuring -------------------------------------------------------------------------------


def code(
    features: np.ndarray, coder: str, rate: float, basis: Calibration | None
) -> tuple[list[int], np.ndarray]:
    """(N, C, h, w) through N files -> their sizes in bytes, and what they decode to.

    rate: bits per element; a file of ours has at most as many, and one of an anchor the setting
    that comes nearest.
    """
    if coder in OURS:
        how = {"profile": "tensor", "rate": rate, "calibration": basis}
        files = [sccodec.encode(each, **how) for each in features]
        decoded = [sccodec.decode(file, calibration=basis) for file in files]
        return [len(file) for file in files], np.stack(decoded)
    anchor, coded = ANCHORS[coder], []
    setting = anchor.settings[len(anchor.settings) // 2]
    for each in features:
        coded.append(anchor.code(each, rate * each.size / 8, setting))
        setting = coded[-1].setting
    return [each.size for each in coded], np.stack([each.decoded for each in coded])


class Results:
    """Rows of one JSON file, written after each; a row is known by what was asked for."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict] = json.loads(path.read_text())["rows"] if path.exists() else []

    def find(self, **key) -> dict | None:
        return next((row for row in self.rows if key.items() <= row.items()), None)

    def add(self, row: dict) -> None:
        self.rows.append(row)
        data = {"about": about(), "rows": self.rows}
        self.path.write_text(json.dumps(data, indent=1) + "\n")
        told = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
        print(told, flush=True)


def about() -> dict:
    return {**machine.about(), "versions": {name: version(name) for name in PACKAGES}}


def measure(task: Classification | Detection, options: argparse.Namespace, out: Results) -> None:
    for split in options.splits or SPLITS[task.title]:
        if split not in task.network.splits:
            continue
        features = captured(task, split, options.cache)
        reference = in_batches(task.network.tail, features, split)
        place = {"network": task.title, "split": split, "pictures": len(features)}
        if not out.find(**place, coder="none"):
            shape = list(features.shape[1:])
            zeros = float((features == 0).mean())
            kind = {"measure": task.measure, "shape": shape, "zeros": zeros}
            out.add(place | {"coder": "none"} | kind | task.judge(reference, reference))
        for rate in options.rates:
            for coder in options.coders:
                if coder == "sccodec-basis" and task.examples is None:
                    continue
                if not out.find(**place, coder=coder, rate=rate):
                    basis = learnt(task, split) if coder == "sccodec-basis" else None
                    start = time.perf_counter()
                    sizes, decoded = code(features, coder, rate, basis)
                    seconds = (time.perf_counter() - start) / len(features)
                    row = place | {"coder": coder, "rate": rate, "seconds": seconds}
                    out.add(row | result(task, split, features, reference, sizes, decoded))


@functools.cache
def learnt(task: Classification | Detection, split: str) -> Calibration:
    """The basis of a split's channels for pictures that are not measured."""
    features = in_batches(task.network.head, task.examples, split)
    return calibrate_bases([[from_array(each)] for each in features], Settings())


def captured(task: Classification | Detection, split: str, cache: Path | None) -> np.ndarray:
    """The features of every picture, kept in a folder between runs if there is one."""
    if cache is None:
        return in_batches(task.network.head, task.inputs, split)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{task.title} {split} {len(task.inputs)}.npy".replace(" ", "-")
    if not path.exists():
        np.save(path, in_batches(task.network.head, task.inputs, split))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def result(task, split, features, reference, sizes, decoded) -> dict:
    outputs = in_batches(task.network.tail, decoded, split)
    return {
        "bits": 8 * sum(sizes) / features.size,
        "bytes": sum(sizes) / len(features),
        "feature error": relative_error(decoded, features),
        **task.judge(outputs, reference),
    }


# -- reporting -------------------------------------------------------------------------------


def report(data: dict) -> str:
    """The tables of a page, as Markdown."""
    where, rows = data["about"], data["rows"]
    processor, cores = where["machine"]["processor"], where["machine"]["cores"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    lines = [f"{where['date']}, {processor}, {cores} cores; {versions}.", ""]
    for place in [row for row in rows if row["coder"] == "none"]:
        here = [row for row in rows if same_place(row, place)]
        if len(here) > 1:
            lines += section(place, here)
    return "\n".join([*lines, bar(rows)])


def same_place(row: dict, place: dict) -> bool:
    return all(row[name] == place[name] for name in ("network", "split", "pictures"))


def section(place: dict, rows: list[dict]) -> list[str]:
    shape, measure = "×".join(map(str, place["shape"])), place["measure"]
    lines = [
        f"**{place['network']} after {place['split']}**, {shape}, {place['zeros']:.0%} zeros, "
        f"{place['pictures']} pictures; uncoded {measure} {100 * place['accuracy']:.1f} %",
        "",
    ]
    heads = ["coder", "bits/element", "bytes", f"{measure} %", "loss", "agreement %"]
    heads.append("feature error")
    cells = []
    for row in sorted((r for r in rows if r is not place), key=lambda r: (r["rate"], order(r))):
        loss = 100 * (place["accuracy"] - row["accuracy"])
        cells.append(
            [
                title(row["coder"]),
                f"{row['bits']:.3f}",
                f"{row['bytes']:,.0f}",
                f"{100 * row['accuracy']:.1f}",
                f"{loss:+.1f}",
                f"{100 * row['agreement']:.1f}",
                f"{row['feature error']:.4f}",
            ]
        )
    return [*lines, markdown.table(heads, cells), ""]


def order(row: dict) -> int:
    return [*OURS, *ANCHORS].index(row["coder"])


def title(coder: str) -> str:
    return ANCHORS[coder].title if coder in ANCHORS else OURS[coder]


def bar(rows: list[dict]) -> str:
    """Where the papers' claim holds: within 0.6 to 0.8 bits per element less than 1 % is lost."""
    lines = []
    for place in [row for row in rows if row["coder"] == "none"]:
        near = [r for r in rows if same_place(r, place) and 0.55 < r.get("rate", 0) < 0.85]
        for coder in OURS:
            ours = sorted((r for r in near if r["coder"] == coder), key=lambda row: row["rate"])
            if not ours:
                continue
            least = 100 * min(place["accuracy"] - row["accuracy"] for row in ours)
            verdict = "met" if least < 1 else "missed"
            lines.append(
                [
                    f"{place['network']} after {place['split']}",
                    title(coder),
                    f"{least:+.1f} ({verdict})",
                    "; ".join(against_hevc(ours, near)) or "not measured",
                ]
            )
    heads = ["split", "coder", "least loss at 0.6–0.8 bits/element", "better than HEVC there"]
    return markdown.table(heads, lines)


def against_hevc(ours: list[dict], rows: list[dict]) -> Iterator[str]:
    for row in ours:
        for other in rows:
            if other["coder"] == "hevc" and other["rate"] == row["rate"]:
                gain = 100 * (row["accuracy"] - other["accuracy"])
                agreed = 100 * (row["agreement"] - other["agreement"])
                yield f"at {row['bits']:.2f}: {gain:+.1f}, agreement {agreed:+.1f}"


def plot(rows: list[dict]) -> str:
    """Agreement with the uncoded network over bits per element: ours solid, with a basis where it
    was measured, HEVC dashed."""
    places = [row for row in rows if row["coder"] == "none"]
    colours = plots.colour_of([place["split"] for place in places])
    lines, painted = [], {}
    for place in places:
        based = any(same_place(r, place) and r["coder"] == "sccodec-basis" for r in rows)
        for coder, dashed in (("sccodec-basis" if based else "sccodec", False), ("hevc", True)):
            part = [r for r in rows if same_place(r, place) and r["coder"] == coder]
            points = sorted((row["bits"], 100 * row["agreement"], words_of(row)) for row in part)
            ours = "basis" if based else "sccodec"
            name = f"{place['split']}: {'HEVC' if dashed else ours}"
            lines.append(plots.Line(name, tuple(points), dashed))
            painted[name] = colours[place["split"]]
    title = "Agreement with the uncoded network"
    return plots.chart(title, "bits per element", "agreement %", lines, colours=painted)


def words_of(row: dict) -> str:
    accuracy, agreement = 100 * row["accuracy"], 100 * row["agreement"]
    return f"{row['bits']:.2f} bits: accuracy {accuracy:.1f} %, agreement {agreement:.1f} %"


def write_page(page: Path, data: dict) -> None:
    """Puts the tables between the page's marks, and the plot beside the page."""
    markdown.put(page, report(data))
    page.with_suffix(".svg").write_text(plot(data["rows"]) + "\n")


# -- command line ----------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return text.split(",")


def numbers(text: str) -> list[float]:
    return [float(word) for word in words(text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("measure")
    run.add_argument("results", type=Path)
    run.add_argument("--imagenet", type=Path, metavar="DIR")
    run.add_argument("--coco", type=Path, metavar="DIR")
    run.add_argument("--yolo", type=Path, metavar="DIR")
    run.add_argument("--efficientnet", type=Path, metavar="FILE", help="instead of the package's")
    run.add_argument("--splits", type=words, help="such as 'stem,block 4'")
    run.add_argument("--rates", type=numbers, default=[0.4, 0.6, 0.8, 1.2])
    run.add_argument("--coders", type=words, default=[*OURS, *ANCHORS])
    run.add_argument("--pictures", type=int, help="only the first so many")
    run.add_argument("--cache", type=Path, metavar="DIR", help="keep captured features here")
    show = commands.add_parser("report")
    show.add_argument("results", type=Path)
    show.add_argument("--page", type=Path, help="write tables and plot here")
    options = parser.parse_args()
    if options.command == "measure":
        if not (options.imagenet or (options.coco and options.yolo)):
            parser.error("nothing to measure: give --imagenet, or --coco and --yolo")
        out = Results(options.results)
        for task in tasks(options):
            measure(task, options, out)
    else:
        data = json.loads(options.results.read_text())
        if options.page:
            write_page(options.page, data)
        else:
            print(report(data))


if __name__ == "__main__":
    main()
