"""Decodes the entropy path of a file by hand, one tile after the other."""

import zlib

import numpy as np

from sccodec.codecs.tiles import Grid
from sccodec.container import from_bytes
from sccodec.entropy import coder
from sccodec.latents.corrections import unpack
from sccodec.profiles.registry import find


def decode_tile(reader, model, tile, models):
    """For each layer: the decoded rounds [(symbols, table index)], and `Coded`."""
    header = reader.header
    box = Grid(header.width, header.height, header.tile_size).latents(tile)
    seen = []
    for n, prior in enumerate(model.priors):
        step = header.layer(n).step + reader.tiles[n][tile].step_offset
        lower = np.concatenate([seen[i] for i in model.layers[n].needs]) if n else None
        decoder = coder.Decoder(models, words(reader, model, n, tile))
        rounds, met = prior.rounds(box.height, box.width, step, lower), []
        ask = next(rounds)
        while True:
            met.append((decoder.decode(ask.index), ask.index))
            try:
                ask = rounds.send(met[-1][0])
            except StopIteration as stop:
                coded = stop.value
                break
        decoder.finish()
        seen.append(coded.seen)
        yield n, met, coded


def words(reader, model, layer, tile):
    """A payload without the correction in front of it."""
    payload, plan = reader.payload(layer, tile), model.layers[layer]
    return unpack(payload, plan.bends)[1] if plan.finish else payload


def tile_by_tile(data, order=None, plain=False):
    """Checksums of every (layer, tile): of its symbols, and of what the layers above see."""
    reader = from_bytes(data)
    model = find(reader.header.model, reader.header.digest)
    models = coder.Models(model.tables, plain=plain)
    result = {}
    for tile in range(reader.header.layer(0).tiles) if order is None else order:
        for n, met, coded in decode_tile(reader, model, tile, models):
            result[f"layer {n}, tile {tile}"] = [
                f"{coder.checksum([symbols for symbols, _ in met]):08x}",
                f"{zlib.crc32(coded.seen.astype('<i8').tobytes()):08x}",
            ]
    return result
