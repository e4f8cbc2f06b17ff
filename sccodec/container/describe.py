"""What `info` says of a file: plain values whose sizes add up to the file."""

from __future__ import annotations

from sccodec.container import layout, tensors
from sccodec.container.reader import Reader
from sccodec.container.rules import tile_grid
from sccodec.errors import shown

LAST_STEP = 511  # step indexes of the profiles that have any; a header may hold more


def describe(reader: Reader) -> dict:
    """Everything known without decoding, ready for JSON.

    bytes = the sum over `layers` of bytes + the sum over `metadata` + overhead_bytes; the last
    is signature, header, directory, chunk heads and checksums.
    """
    header = reader.header
    total = reader.structure()[-1][1] + reader.structure()[-1][2]
    pixels = header.width * header.height * header.frames
    metadata = {chunk.type: len(chunk.payload) for chunk in reader.chunks}
    layers = [_layer(reader, layer, pixels) for layer in header.layers]
    payload = sum(layer.bytes for layer in header.layers) + sum(metadata.values())
    columns, rows = tile_grid(header.width, header.height, header.tile_size)
    if header.kind == "tensor":
        return _describe_tensors(reader, total, metadata, payload)
    return {
        "name": reader.name,
        "version": header.version,
        "modality": header.kind,
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "alpha": "ALPH" in metadata,
        "bit_depth": header.bit_depth,
        "frames": header.frames,
        "bytes": total,
        "bpp": round(8 * total / pixels, 6),
        "model": header.model,
        "digest": header.digest.hex(),
        "tile_size": header.tile_size,
        "tile_columns": columns,
        "tile_rows": rows,
        "total_layers": header.total_layers,
        "layers": layers,
        "metadata": metadata,
        "overhead_bytes": total - payload,
    }


def _describe_tensors(reader: Reader, total: int, metadata: dict, payload: int) -> dict:
    """The same for a file of feature tensors; rates are bits per element."""
    header = reader.header
    found = tensors.read(reader)
    elements = max(sum(tensor.elements for tensor in found), 1)
    layers = []
    for layer in header.layers:
        facts = _layer(reader, layer, elements)
        for name in ("step", "step_size", "psnr"):  # a quantiser is said for each tensor
            del facts[name]
        layers.append(facts | {"bits_per_element": facts.pop("bpp")})
    return {
        "name": reader.name,
        "version": header.version,
        "modality": "tensor",
        "bytes": total,
        "elements": sum(tensor.elements for tensor in found),
        "bits_per_element": round(8 * total / elements, 6),
        "model": header.model,
        "digest": header.digest.hex(),
        "tile_size": header.tile_size,
        "total_layers": header.total_layers,
        "tensors": [_tensor(tensor) for tensor in found],
        "layers": layers,
        "metadata": metadata,
        "overhead_bytes": total - payload,
    }


def _tensor(tensor: tensors.TensorEntry) -> dict:
    facts = {
        "name": tensor.name,
        "kind": tensor.kind,
        "shape": list(tensor.shape),
        "channel_axis": tensor.channel_axis,
        "coder": tensor.coder,
        "levels": [layer.count for layer in tensor.layers],
    }
    if tensor.transform:
        limits = tensor.transform.limits
        rest = {"block": list(tensor.transform.block), "step": tensor.transform.step}
        layers = range(tensor.layer_count)
        rest["steps"] = [tensor.transform.layer(n).step for n in layers]
        if tensor.based:
            rest["basis"] = tensor.transform.basis.hex()
        return facts | {"limits": list(limits) if limits else None} | rest
    return facts | {"limits": [tensor.layers[-1].values[0], tensor.layers[-1].values[-1]]}


def _layer(reader: Reader, layer: layout.LayerEntry, pixels: int) -> dict:
    entries = reader.tiles[layer.index]
    known = layer.quality != layout.QUALITY_UNKNOWN
    return {
        "index": layer.index,
        "name": layer.name,
        "purpose": layer.purpose_name,
        "needs": list(layer.needed),
        "bytes": layer.bytes,
        "bpp": round(8 * layer.bytes / pixels, 6),
        "step": layer.step,
        "step_size": round(2 ** ((layer.step - 256) / 32), 4) if layer.step <= LAST_STEP else None,
        "tiles": layer.tiles,
        "tiles_present": sum(entry.present for entry in entries),
        "psnr": layer.quality / 100 if known else None,
    }


def table(facts: dict) -> str:
    """The same for people: one line a layer, the last line is the file."""
    return (_tensor_table if facts["modality"] == "tensor" else _picture_table)(facts)


def _how(tensor: dict) -> str:
    """What the values of a tensor went through, for people."""
    if tensor["coder"] == "transform":
        based = f", basis {tensor['basis']}" if "basis" in tensor else ""
        block = "x".join(map(str, tensor["block"]))
        steps = ", ".join(f"{step:g}" for step in tensor["steps"])
        return f"transform of {block}, step {steps}{based}"
    low, high = tensor["limits"]
    return f"{','.join(map(str, tensor['levels']))} levels, {low:g} to {high:g}"


def _tensor_table(facts: dict) -> str:
    lines = [f"{facts['name']}: {len(facts['tensors'])} tensors, {facts['elements']} elements"]
    for tensor in facts["tensors"]:
        shape = "x".join(map(str, tensor["shape"])) or "scalar"
        name = shown(tensor["name"]) or "(no name)"
        lines.append(f"  {name}: {shape} {tensor['kind']}, {_how(tensor)}")
    lines.append(f"{'layer':<16}{'bytes':>10}{'share':>8}{'bits per element':>18}")

    def line(name: str, size: int) -> str:
        share = size / facts["bytes"]
        return f"{name:<16}{size:>10}{share:>8.1%}{facts['bits_per_element'] * share:>18.4f}"

    lines += [line(layer["name"], layer["bytes"]) for layer in facts["layers"]]
    lines += [line(kind, size) for kind, size in facts["metadata"].items()]
    lines += [line("container", facts["overhead_bytes"]), line("file", facts["bytes"])]
    return "\n".join(lines)


def _picture_table(facts: dict) -> str:
    picture = f"{facts['width']}x{facts['height']}, {facts['channels']} x {facts['bit_depth']} bit"
    if facts["alpha"]:
        picture += ", alpha"
    lines = [
        f"{facts['name']}: {picture}, model {facts['model']} ({facts['digest']}), "
        f"{facts['tile_columns']}x{facts['tile_rows']} tiles",
        f"{'layer':<16}{'bytes':>10}{'share':>8}{'bpp':>9}{'step':>6}{'PSNR':>8}",
    ]

    def line(name: str, size: int, step: object = "", psnr: str = "") -> str:
        share = size / facts["bytes"]
        bpp = facts["bpp"] * share
        return f"{name:<16}{size:>10}{share:>8.1%}{bpp:>9.4f}{step:>6}{psnr:>8}"

    for layer in facts["layers"]:
        psnr = "" if layer["psnr"] is None else f"{layer['psnr']:.2f}"
        name = layer["name"]
        if layer["tiles_present"] < layer["tiles"]:
            name += f" {layer['tiles_present']}/{layer['tiles']}"
        lines.append(line(name, layer["bytes"], layer["step"], psnr))
    lines += [line(kind, size) for kind, size in facts["metadata"].items()]
    lines.append(line("container", facts["overhead_bytes"]))
    lines.append(line("file", facts["bytes"]))
    return "\n".join(lines)
