"""sccodec demo"""

from __future__ import annotations

import json
from pathlib import Path

import click

from sccodec.cli import border

FILES = ("original.png", "photo.scc", "base.scc", "rest.scc", "joined.scc", "base.png", "all.png")


@click.command("demo")
@click.option("-o", "--output", default="sccodec-demo", show_default=True, metavar="DIR")
@click.option("--rate", default=0.5, show_default=True, metavar="BPP")
@border.json_option
@border.border
def command(output, rate, as_json):
    """Run the main job on a bundled picture.

    Encodes, extracts, joins and decodes it, and says what each layer costs and gives. The
    files stay in DIR for you to look at; those of an earlier run are replaced.
    """
    import numpy as np

    import sccodec
    from sccodec.errors import BadRequest, CodecError
    from sccodec.media import image

    if not output:
        raise BadRequest("no folder to write into")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).parents[1] / "demo" / "photo.png"
    there = [folder / name for name in FILES if (folder / name).exists()]
    if there and not (there[0].name == FILES[0] and there[0].read_bytes() == source.read_bytes()):
        raise BadRequest(
            f"{there[0]} exists, and is not of an earlier demo", hint="-o names another folder"
        )
    original = image.read(source)
    pixels = original.width * original.height

    def put(name: str, data: bytes) -> bytes:
        with border.whole_file(folder / name, force=True) as out:
            out.write(data)
        return data

    put("original.png", source.read_bytes())
    whole = put("photo.scc", sccodec.encode(original.pixels, rate=rate))
    base = put("base.scc", sccodec.extract(whole, "base"))
    rest = put("rest.scc", sccodec.extract(whole, "enhancement"))
    put("joined.scc", sccodec.join(base, rest))
    rows = []
    for name, part, layers in (("base", base, "base"), ("all", whole, "all")):
        decoded = sccodec.decode(part, layers)
        with border.whole_file(folder / f"{name}.png", force=True) as out:
            image.write(image.from_array(decoded), out, format="png")
        error = np.square(decoded.astype(float) - original.pixels).mean()
        rows.append(
            {
                "layers": name,
                "bytes": len(part),
                "bpp": round(8 * len(part) / pixels, 4),
                "psnr": round(float(10 * np.log10(255**2 / error)), 2),
            }
        )
    if (folder / "joined.scc").read_bytes() != whole:
        raise CodecError("join did not give the original file back")
    if as_json:
        click.echo(json.dumps(rows))
        return
    click.echo(f"{'layers':<8}{'bytes':>8}{'bpp':>9}{'PSNR':>8}")
    for row in rows:
        click.echo(f"{row['layers']:<8}{row['bytes']:>8}{row['bpp']:>9.4f}{row['psnr']:>8.2f}")
    click.echo(f"join(base, rest) is the original file, byte for byte; files are in {folder}/")
