"""Makes the vectors of `sccodec doctor`: python tests/make_doctor.py [MODEL] [FOLDER]

A person runs this after the shipped model has changed, on a machine that is trusted. The
picture is a piece of the bundled photo, coded in tiles so that every kind of tile is there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import sccodec
from sccodec.codecs import doctor
from sccodec.media.image import from_array, read, write
from sccodec.profiles.registry import DEFAULT, find


def make(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = find(name)
    photo = Path(sccodec.__file__).parent / "demo" / "photo.png"
    array = read(photo).pixels[100:260, 150:370]
    data = sccodec.encode(array, profile=name, step=300, tile=128)
    (folder / "photo.scc").write_bytes(data)
    with (folder / "photo.png").open("wb") as out:
        write(from_array(sccodec.decode(data)), out, format="png")
    expected = {
        "model": model.id,
        "digest": model.digest,
        "networks": doctor.networks(model),
        "coder": doctor.coded(model, plain=True),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    for check in doctor.examine(folder):
        print(f"{'ok' if check.ok else 'DIFFERS':<8}{check.part}: {check.seen}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    make(
        arguments[0] if arguments else DEFAULT,
        Path(arguments[1]) if len(arguments) > 1 else doctor.VECTORS,
    )
