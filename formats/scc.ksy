meta:
  id: scc
  title: Scalable learned codec, layered file
  file-extension: scc
  license: Apache-2.0
  ks-version: "0.10"
  endian: le
doc: |
  The container of formats/container.md. Checksums, sums of lengths and limits are not checked
  here; payloads are found by their lengths in the directory.
seq:
  - id: signature
    contents: [0x89, 0x53, 0x43, 0x43, 0x0d, 0x0a, 0x1a, 0x0a]
  - id: head
    type: chunk
    valid:
      expr: _.type == "HEAD"
  - id: before_layers
    type: chunk
    repeat: until
    repeat-until: _.type == "DIRE"
    doc: Metadata, and the directory last
  - id: layers
    type: chunk
    repeat: expr
    repeat-expr: header.present_layers
    valid:
      expr: _.type == "LAYR"
  - id: done
    type: chunk
    valid:
      expr: _.type == "DONE"
instances:
  header:
    value: head.payload.as<header>
  directory:
    value: before_layers.last.payload.as<directory>
types:
  chunk:
    seq:
      - id: type
        type: str
        size: 4
        encoding: ASCII
      - id: flags
        type: u1
        doc: Bit 0 critical, bit 1 safe to copy
        valid:
          max: 3
      - id: length
        type: u4
        valid:
          max: 0x7fffffff
      - id: payload
        size: length
        type:
          switch-on: type
          cases:
            '"HEAD"': header
            '"DIRE"': directory
            '"LAYR"': layer
            '"DONE"': end
      - id: checksum
        type: u4
        doc: CRC-32 of type, flags, length and payload
  text:
    seq:
      - id: length
        type: u1
      - id: value
        type: str
        size: length
        encoding: UTF-8
  header:
    seq:
      - id: version
        type: u1
        valid: 1
      - id: modality
        type: u1
        enum: modality
        valid:
          in-enum: true
      - id: width
        type: u4
        valid:
          min: 1
      - id: height
        type: u4
        valid:
          min: 1
      - id: channels
        type: u1
        valid:
          min: 1
      - id: bit_depth
        type: u1
        valid:
          any-of: [8, 16]
      - id: colour
        type: u1
        valid: 0
      - id: frames
        type: u4
        valid:
          min: 1
      - id: tile_size
        type: u4
        valid:
          expr: _ != 0 and _ % 64 == 0
      - id: model
        type: text
      - id: digest
        size: 8
      - id: total_layers
        type: u1
        valid:
          min: 1
          max: 32
      - id: present_layers
        type: u1
        valid:
          min: 1
          max: total_layers
      - id: entries
        type: layer_entry
        repeat: expr
        repeat-expr: present_layers
  layer_entry:
    seq:
      - id: index
        type: u1
        valid:
          max: 31
      - id: name
        type: text
      - id: purpose
        type: u1
        doc: 0 base or preview, 1 enhancement, 2 machine, 3 human, 4 clean; an open list
      - id: needs
        type: u4
        doc: "Bit i: layer i must be decoded first"
      - id: step
        type: u2
      - id: tile_columns
        type: u2
        valid:
          min: 1
      - id: tile_rows
        type: u2
        valid:
          min: 1
      - id: bytes
        type: u8
        doc: Sum of the lengths of its tiles
      - id: quality
        type: u2
        doc: PSNR in 1/100 dB, 65535 unknown
    instances:
      tiles:
        value: tile_columns * tile_rows
  directory:
    seq:
      - id: layers
        type: directory_layer(_index)
        repeat: expr
        repeat-expr: _root.header.present_layers
  directory_layer:
    params:
      - id: number
        type: s4
    seq:
      - id: tiles
        type: tile_entry
        repeat: expr
        repeat-expr: _root.header.entries[number].tiles
  tile_entry:
    seq:
      - id: flags
        type: u1
        doc: Bit 0 present
        valid:
          max: 1
      - id: step_offset
        type: s1
      - id: length
        type: u4
      - id: crc32
        type: u4
        doc: CRC-32 of the payload
      - id: symbols
        type: u4
        doc: CRC-32 of the decoded symbols
  layer:
    seq:
      - id: index
        type: u1
      - id: payloads
        size-eos: true
        doc: Tile payloads without a gap
  end:
    seq:
      - id: total_length
        type: u8
        valid: _root._io.size
enums:
  modality:
    0: picture
    1: video
    2: tensor
