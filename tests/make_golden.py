"""Writes tests/golden/tiny.*: a coded picture, what it decodes to, and checksums of the way.

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


if __name__ == "__main__":
    main()
