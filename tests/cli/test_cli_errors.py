"""Failures on the command line: one line each, a fitting exit code, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image
from shell import flip, listing, run

import sccodec
from sccodec.cli import border, cli, encode

VECTORS = Path(__file__).parents[2] / "formats" / "vectors"
TINY = ("--profile", "tiny-1")
HOSTILE = {
    "empty": b"",
    "random": np.random.default_rng(3).bytes(5000),
    "text": b"no picture, but words\n" * 40,
    "png head": b"\x89PNG\r\n\x1a\n" + bytes(300),
    "jpeg head": b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4,
    "pnm of no size": b"P6\n-1 5\n255\n",
    "pnm bomb": b"P6\n60000 60000\n255\n",
    "scc head": b"\x89SCC\r\n\x1a\n" + bytes(300),
    "scc rubbish": b"\x89SCC\r\n\x1a\nHEAD" + np.random.default_rng(4).bytes(2000),
}


@pytest.fixture(scope="module")
def scc(tiny_model) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 128, 3), np.uint8)
    return sccodec.encode(pixels, profile="tiny-1", tile=64, step=300)


@pytest.fixture
def folder(tmp_path, scc, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good.scc").write_bytes(scc)
    Image.fromarray(sccodec.decode(scc)).save("photo.png")
    return tmp_path


# -- exit codes -------------------------------------------------------------------------------


def test_0_done(folder):
    assert run("info", "good.scc").code == 0
    for option in ("--help", "-h", "--version", "-V"):
        assert run(option).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["transcode"],
        ["encode"],
        ["encode", "photo.png", "--nope"],
        ["encode", "photo.png", "--rate", "much"],
        ["encode", "photo.png", *TINY, "--rate", "1", "-q", "50"],
        ["encode", "photo.png", *TINY, "--rate", "nan"],
        ["encode", "photo.png", *TINY, "--rate", "-1"],
        ["encode", "photo.png", *TINY, "-q", "101"],
        ["encode", "photo.png", *TINY, "-q", "nan"],
        ["encode", "photo.png", *TINY, "--step", "512"],
        ["encode", "photo.png", *TINY, "--tile", "100"],
        ["encode", "photo.png", *TINY, "--tile", "-64"],
        ["encode", "photo.png", *TINY, "--tile", str(2**40)],
        ["encode", "photo.png", *TINY, "--max-bytes", "0"],
        ["encode", "photo.png", *TINY, "--max-bytes", "inf"],
        ["encode", "photo.png", *TINY, "--max-bytes", "20 kB"],
        ["encode", "photo.png", *TINY, "--roi", "1,2,3"],
        ["encode", "photo.png", *TINY, "--roi", "1,2,3,4:x"],
        ["encode", "photo.png", *TINY, "--roi", "1,2,3,4:999"],
        ["encode", "photo.png", *TINY, "--roi", "500,500,3,4"],
        ["encode", "photo.png", *TINY, "--metadata", "gps"],
        ["encode", "photo.png", *TINY, "-j", "0"],
        ["encode", "photo.png", *TINY, "-j", "many"],
        ["encode", "photo.png", *TINY, "-o", ""],
        ["encode", "photo.png", *TINY, "-o", "missing/photo.scc"],
        ["encode", "missing.png", *TINY],
        ["encode", ".", *TINY],
        ["decode", "."],
        ["decode", "missing.scc"],
        ["decode", "good.scc", "-o", "photo.xyz"],
        ["decode", "good.scc", "-o", "photo"],
        ["decode", "good.scc", "--region", "0,0,0,0", "-o", "a.png"],
        ["decode", "good.scc", "--region", "a,b,c,d", "-o", "a.png"],
        ["decode", "good.scc", "--region", f"{10**30},0,1,1", "-o", "a.png"],
        ["decode", "good.scc", "--layers", "", "-o", "a.png"],
        ["decode", "good.scc", "--layers", "0", "-o", "a.png"],
        ["decode", "good.scc", "--layers", "9" * 30, "-o", "a.png"],
        ["decode", "good.scc", "--size-limit", "-1", "-o", "a.png"],
        ["decode", "good.scc", "--dimension-limit", "-1", "-o", "a.png"],
        ["decode", "good.scc", "--damage-map", "map.png", "-o", "a.png"],
        ["decode", "good.scc", "--allow-partial", "--damage-map", "./a.png", "-o", "a.png"],
        ["decode", "good.scc", "--allow-partial", "--damage-map", "photo.png", "-o", "a.png"],
        ["decode", "good.scc", "x.scc", "--allow-partial", "--damage-map", "m.png", "-o", "."],
        ["decode", "good.scc", "--allow-partial", "--damage-map", "good.png"],
        ["decode", "good.scc", "--allow-partial", "--damage-map", "./good.png", "-o", "."],
        ["decode", "http://[::1/a.scc"],
        ["encode", "http://127.0.0.1:1/a.png", *TINY],
        ["encode", "photo.png", "http://127.0.0.1:1/a.npy", *TINY],
        ["decode", "good.scc", "--keep-tree"],
        ["decode", "../good.scc", "--keep-tree", "-o", "."],
        ["decode", "good.scc", "--skip-existing", "-f"],
        ["decode", "--files-from", "missing.txt"],
        ["decode", "-0", "good.scc"],
        ["decode", "--files-from", "-", "-"],
        ["decode", "--files-from", "-", "-o", "one.png"],
        ["decode", "--files-from", "good.scc"],  # which holds NUL
        ["info", "--files-from"],
        ["info", "."],
        ["extract", ".", "-o", "a.scc"],
        ["extract", "good.scc", "-o", "./a.scc", "--rest", "a.scc"],
        ["extract", "good.scc", "-o", "-", "--rest", "-"],
        ["join", "good.scc", ".", "-o", "a.scc"],
        ["demo", "-o", "photo.png"],
        ["train", "no-such-recipe", "--data", ".", "-o", "run"],
        ["export", "photo.png", "-o", "model", "--id", "x-1", "--data", "."],
        ["export", "missing.pt", "-o", "model", "--id", "x-1", "--data", "."],
    ],
    ids=" ".join,
)
def test_1_usage(folder, arguments):
    before = listing(folder)
    result = run(*arguments)
    assert result.code == 1
    assert listing(folder) == before


def test_2_damaged_or_not_ours(folder, scc):
    Path("bad.scc").write_bytes(flip(scc, layer=0, tile=1))
    for arguments in (["decode", "bad.scc"], ["info", "photo.png"], ["encode", "good.scc", *TINY]):
        assert run(*arguments, *(["-f"] if arguments[0] == "encode" else [])).code == 2


def test_3_unsupported_or_model_missing(folder, scc, monkeypatch):
    result = run("encode", "photo.png", "--profile", "video")
    assert result.code == 3
    assert "model video is needed and it is not installed; installed: tiny-1" in result.errors[0]
    _, _, newer = (VECTORS / "unsupported_version_2.vector").read_bytes().partition(b"\n\n")
    result = run("decode", "-", stdin=newer)
    assert result.code == 3
    assert result.hints == ["sccodec: hint: a newer sccodec reads it"]
    # A model of that name with other weights is another model.
    other = scc.replace(sccodec.open(scc).header.digest, bytes(8))
    other = _resealed(other)
    result = run("decode", "-", stdin=other)
    assert result.code == 3
    assert "another model of that name is installed" in result.errors[0]
    assert run("info", "-", stdin=other).code == 0  # which needs no model


def _resealed(data: bytes) -> bytes:
    """The file with a new checksum of its header."""
    import zlib

    length = int.from_bytes(data[13:17], "little")
    crc = zlib.crc32(data[8 : 17 + length]).to_bytes(4, "little")
    return data[: 17 + length] + crc + data[21 + length :]


def test_4_over_a_limit(folder, monkeypatch):
    result = run("decode", "good.scc", "--size-limit", 64 * 128 - 1, "-f")
    assert result.code == 4
    assert "pixels: 8192 is above the limit of 8191" in result.errors[0]
    assert run("decode", "good.scc", "--size-limit", 64 * 128, "-f").code == 0
    assert run("decode", "good.scc", "--size-limit", 0, "-f").code == 0
    result = run("decode", "good.scc", "--dimension-limit", 127, "-f")
    assert result.code == 4
    assert "pixels of the longer side: 128 is above the limit of 127" in result.errors[0]
    for limit in (128, 0):
        assert run("decode", "good.scc", "--dimension-limit", limit, "-f").code == 0
    result = run("encode", "photo.png", *TINY, "--size-limit", 64 * 128 - 1)
    assert (result.code, Path("photo.scc").exists()) == (4, False)
    assert "128 x 64 pixels, more than the limit of 8191" in result.errors[0]
    monkeypatch.setenv("SCCODEC_MAX_PIXELS", "8191")
    assert run("encode", "photo.png", *TINY).code == 4
    for source in ("photo.png", np.zeros((64, 128), np.uint8)):
        with pytest.raises(sccodec.LimitExceeded):
            sccodec.encode(source, profile="tiny-1")
    assert run("encode", "photo.png", *TINY, "--size-limit", 0).code == 0
    monkeypatch.setenv("SCCODEC_MAX_DIMENSION", "127")
    assert run("encode", "photo.png", *TINY, "--size-limit", 0, "-f").code == 4
    assert run("encode", "-", *TINY, stdin=HOSTILE["pnm bomb"]).code == 4


# -- many files -------------------------------------------------------------------------------


def test_a_failing_file_does_not_stop_the_rest(folder):
    Path("words.png").write_bytes(HOSTILE["text"])
    inputs = ["words.png", "missing.png", "photo.png"]
    result = run("encode", *TINY, *inputs, "-o", "out/", "--json")
    assert result.code == 2  # that of the first failure
    assert [path.name for path in Path("out").iterdir()] == ["photo.scc"]
    rows = result.rows()
    assert [row["input"] for row in rows] == inputs
    assert [row.get("code") for row in rows] == [2, 1, None]
    for row, line in zip(rows, result.errors, strict=False):
        assert line == f"sccodec: error: {row['error']}"
    Path("words.scc").write_bytes(HOSTILE["random"])
    result = run("decode", "words.scc", "good.scc", "-o", "out/")
    assert (result.code, Path("out/good.png").exists()) == (2, True)


def test_control_characters_in_names_do_not_reach_the_terminal(folder, scc):
    name = "red\x1b[31m\a\u202egnp.scc"
    for content, fine in ((None, False), (b"none", False), (scc, True)):
        if content is not None:
            Path(name).write_bytes(content)
        for arguments in (["info", name], ["verify", name], ["decode", name, "-o", "a.png", "-f"]):
            result = run(*arguments)
            assert (result.code == 0) == fine
            assert "red\\x1b[31m\\x07\\u202egnp.scc" in result.err + result.out.decode()
            assert not {"\x1b", "\a", "\u202e"} & set(result.err + result.out.decode())


# -- hostile files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_inputs_give_one_line_and_no_file(folder, name):
    Path("x").write_bytes(HOSTILE[name])
    before = listing(folder)
    for arguments in (
        ["encode", "x", *TINY],
        ["decode", "x"],
        ["decode", "x", "--allow-partial"],
        ["info", "x"],
        ["info", "x", "--allow-partial"],
        ["verify", "x"],
        ["extract", "x", "-o", "out.scc"],
        ["join", "x", "good.scc", "-o", "out.scc"],
        ["join", "good.scc", "x", "-o", "out.scc"],
    ):
        result = run(*arguments)
        assert result.code in (2, 4)
        assert len(result.errors) == 1
        assert listing(folder) == before
        first, *more = arguments
        again = run(first, *("-" if word == "x" else word for word in more), stdin=HOSTILE[name])
        assert (again.code, len(again.errors)) == (result.code, 1)


def test_every_vector_through_the_command_line(tmp_path):
    """Payloads of vectors are dummies for a model that nobody has, so none is decoded."""
    codes = {"ok": 0, "damaged": 2, "not": 2, "unsupported": 3, "limit": 4}
    vectors = sorted(VECTORS.glob("*.vector"))
    assert len(vectors) >= 40
    for vector in vectors:
        _, _, data = vector.read_bytes().partition(b"\n\n")
        expected = codes[vector.stem.partition("_")[0]]
        if vector.stem == "ok_tensor_file":
            expected = 2  # whole to the container, but its table of tensors is a dummy too
        # `info` reads no payload; decoding ends where the base (1) or the model (3) is missing.
        assert run("info", "-", stdin=data).code in (expected, 0), vector.stem
        named = ("-o", str(tmp_path / "t.npz")) if "tensor" in vector.stem else ()
        assert run("decode", "-", *named, stdin=data).code in (expected or 1, 3), vector.stem
        assert run("extract", "-", "--layers", "all", "-o", "-", stdin=data).code in (expected, 0)


def test_verify_gives_its_verdict_on_a_file_that_is_not_ours(folder):
    for name, verdict in (("text", b"not ours"), ("scc head", b"damaged")):
        Path("x.scc").write_bytes(HOSTILE[name])
        result = run("verify", "x.scc", "good.scc")
        assert (result.code, len(result.errors)) == (2, 1)
        assert result.out == b"x.scc: " + verdict + b"\ngood.scc: ok\n"
        rows = run("verify", "x.scc", "missing.scc", "good.scc", "--json").rows()
        assert [row.get("verdict") for row in rows] == [verdict.decode(), None, "ok"]
        assert [row.get("code") for row in rows] == [None, 1, None]
    result = run("verify", "missing.scc")
    assert (result.code, result.out) == (1, b"")


# -- nothing half-written ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "error", "code"),
    [
        ("sccodec.media.image.read", OSError(5, "Input/output error"), 1),
        ("sccodec.codecs.image.encode", sccodec.CodecError("the encoder stopped"), 2),
        ("sccodec.codecs.image.encode", MemoryError(), 4),
        ("sccodec.container.writer._refuse_existing", OSError(28, "No space left"), 1),
    ],
)
def test_no_file_is_left_whichever_step_fails(folder, monkeypatch, place, error, code):
    before = listing(folder)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(place, fail)
    assert run("encode", "photo.png", *TINY).code == code
    assert listing(folder) == before


def test_a_keyboard_interrupt_is_not_an_error(folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sccodec.codecs.image.encode", interrupt)
    result = run("encode", "photo.png", *TINY)
    assert (result.code, result.err) == (130, "sccodec: interrupted\n")
    assert not Path("photo.scc").exists()


# -- the border -------------------------------------------------------------------------------


def test_click_before_8_2_is_enough():
    program = (
        "import sys, click; del click.exceptions.NoArgsIsHelpError\n"
        "from sccodec.cli import main; sys.argv = ['sccodec', *sys.argv[1:]]; main()"
    )
    for arguments, code in ((["--version"], 0), (["nonsense"], 1), (["encode"], 1)):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


def test_a_file_that_ends_too_early_is_not_taken_for_an_interrupt(capsys):
    @border.border
    def command():
        raise EOFError("no end marker")

    with pytest.raises(SystemExit) as left:
        command()
    assert left.value.code == 2
    assert capsys.readouterr().err == "sccodec: error: a file ends too early: no end marker\n"


def test_warnings_of_pillow_stay_inside():
    @click.command()
    @border.border
    def command():
        with warnings.catch_warnings(record=True) as caught:
            warnings.warn_explicit("bomb", UserWarning, "Image.py", 1, module="PIL.Image")
        assert not caught

    with pytest.raises(SystemExit) as stop:
        command([], standalone_mode=False)
    assert stop.value.code == 0


def test_every_command_has_the_border():
    commands = dict(cli.commands)
    commands |= {f"eval {name}": one for name, one in commands.pop("eval").commands.items()}
    for name, command in commands.items():
        assert hasattr(command.callback, "__wrapped__"), name
        assert command.get_short_help_str(60).rstrip(".") + "." == command.get_short_help_str(99)
    assert encode.command is cli.commands["encode"]
