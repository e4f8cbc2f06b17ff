"""Writes tests/golden/*: a coded picture and coded tensors, and what they decode to.

Run by a person, and only when the format or tests/models/tiny-1 changes; review the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from conftest import MODELS, picture

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    os.environ["SCCODEC_MODELS"] = str(MODELS)
    from tile_checks import tile_by_tile

    from sccodec.codecs import image
    from sccodec.container import from_bytes
    from sccodec.container.describe import describe
    from sccodec.media.image import from_array, write
    from sccodec.profiles.registry import find

    interest = image.Interest((70, 60, 50, 40), finer=40)
    settings = image.Settings(step=250, tile=64, interest=interest)
    data = image.encode(from_array(picture(130, 200, seed=7)), settings, find("tiny-1"))
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / "tiny.scc").write_bytes(data)
    reader = from_bytes(data, name="tiny.scc")
    facts = {"info": describe(reader), "tiles": tile_by_tile(data)}
    (GOLDEN / "tiny.json").write_text(json.dumps(facts, indent=1) + "\n")
    write(image.decode(reader)[0], GOLDEN / "tiny.png")
    print(f"{len(data)} bytes, {len(facts['tiles'])} payloads")
    print(f"{tensors()} bytes of tensors, {transformed()} of coefficients")
    print(f"{transformed('refined', layers=3)} in layers, {based()} of components")


def tensors() -> int:
    """tensors.scc and tensors.npz: two coders, layers, channels with scales, several tiles."""
    import io

    import numpy as np

    import sccodec
    from sccodec.codecs import tensor

    random = np.random.default_rng(5)
    rough = np.repeat(np.repeat(random.normal(size=(20, 9, 8)), 2, 1), 2, 2)
    values = (rough + random.normal(size=rough.shape) / 3).astype(np.float32)
    first = {"relu": np.maximum(values, 0), "both": values.astype(np.float16)}
    data = sccodec.encode(first, levels=(3, 7), channelwise=True, tile=4096)
    more, out = tensor.Settings(max_abs_error=2, coder="unary"), io.BytesIO()
    with sccodec.open(data) as file:
        tensor.append(file.reader, {"int": (20 * values[:2]).astype(np.int8)}, out, more)
    (GOLDEN / "tensors.scc").write_bytes(out.getvalue())
    np.savez_compressed(GOLDEN / "tensors.npz", **sccodec.decode(out.getvalue()))
    return len(out.getvalue())


def transformed(name: str = "transformed", **how) -> int:
    """NAME.scc and NAME.npz: coefficients, small and large, limits, several tiles."""
    import numpy as np

    import sccodec

    random = np.random.default_rng(6)
    rough = np.repeat(np.repeat(random.normal(size=(20, 9, 5)), 2, 1), 2, 2)
    values = (rough + random.normal(size=rough.shape) / 3).astype(np.float32)
    values[3] += 1000
    each = {"linear": values, "relu": np.maximum(values, 0)}
    data = sccodec.encode(each, rate=1.5, transform=True, tile=1024, **how)
    (GOLDEN / f"{name}.scc").write_bytes(data)
    np.savez_compressed(GOLDEN / f"{name}.npz", **sccodec.decode(data))
    return len(data)


def based() -> int:
    """basis/: components of channels, an item in each of two tiles, and their calibration."""
    import numpy as np

    import sccodec
    from sccodec.codecs.calibration import calibrate_bases
    from sccodec.codecs.tensor import Settings
    from sccodec.media.tensor import from_array

    random = np.random.default_rng(7)
    rough = np.repeat(np.repeat(random.normal(size=(2, 3, 9, 5)), 2, 2), 2, 3)
    values = np.einsum("ck,nkhw->nchw", random.normal(size=(7, 3)), rough)
    values = (values + random.normal(size=values.shape) / 3 + 1).astype(np.float32)
    fitted = calibrate_bases([[from_array(values)]], Settings())
    data = sccodec.encode(values, rate=1.5, transform=True, tile=2048, calibration=fitted)
    folder = GOLDEN / "basis"
    folder.mkdir(exist_ok=True)
    fitted.write(folder / "calibration.json")
    (folder / "components.scc").write_bytes(data)
    np.savez_compressed(folder / "components.npz", sccodec.decode(data, calibration=fitted))
    return len(data)


if __name__ == "__main__":
    main()
