"""One encode or decode in a process of its own, for `sccodec bench`.

    python -m sccodec.evaluate.once encode|decode CODEC THREADS IN OUT

Prints {"peak": bytes}: the most memory that it had, or null where the system does not say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sccodec.evaluate import machine, speed
from sccodec.evaluate.pictures import load
from sccodec.media import image


def main(direction: str, name: str, threads: str, source: str, target: str) -> None:
    machine.use_cores(int(threads))
    codec = speed.bench_adapter(name)
    if direction == "encode":
        data = codec.encode(load(source), codec.middle, int(threads))
        Path(target).write_bytes(data)
    else:
        pixels = codec.decode(Path(source).read_bytes(), int(threads))
        image.write(image.from_array(pixels), target)
    print(json.dumps({"peak": machine.peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
