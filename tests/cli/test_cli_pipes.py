"""The console script in real processes with real pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import Result, checked, pixels

import sccodec

SCRIPT = [sys.executable, "-m", "sccodec"]


def start(*arguments, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [*SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=options.pop("stdin", subprocess.PIPE),
        **options,
    )


def finish(process: subprocess.Popen, stdin: bytes | None = None) -> Result:
    out, err = process.communicate(stdin, timeout=60)
    return checked(Result(process.returncode, out, err.decode()))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


def test_a_chain_of_pipes(tmp_path, picture, tiny_model):
    """encode - | extract - | decode - gives the base of the picture."""
    Image.fromarray(picture).save(tmp_path / "photo.png")
    with open(tmp_path / "photo.png", "rb") as photo:
        encode = start("encode", "--profile", "tiny-1", "--step", 300, "-", stdin=photo)
    extract = start("extract", "-", "-o", "-", stdin=encode.stdout)
    decode = start("decode", "-", stdin=extract.stdout)
    encode.stdout.close()
    extract.stdout.close()
    result = finish(decode)
    assert result.code == 0
    assert "<stdin>" not in result.err
    data = sccodec.encode(picture, profile="tiny-1", step=300)
    assert np.array_equal(pixels(result.out), sccodec.decode(data, "base"))
    assert (encode.wait(60), extract.wait(60)) == (0, 0)
    encode.stderr.close()
    extract.stderr.close()


def test_exit_codes_and_messages_reach_the_shell(tmp_path):
    result = finish(start("info", tmp_path / "missing.scc"))
    assert result.code == 1
    assert result.err == f"sccodec: error: {tmp_path}/missing.scc: no such file or directory\n"
    result = finish(start("info", "-"), b"not ours")
    assert result.code == 2
    assert result.err == "sccodec: error: <stdin>: not an .scc file: the first bytes are others\n"
    result = finish(start("encode"))
    assert result.code == 1
    assert result.err.splitlines()[0] == "sccodec: error: missing argument 'IN...'"


def test_a_name_that_stdout_cannot_hold_does_not_stop_a_report(tmp_path, picture, tiny_model):
    (tmp_path / "写真.scc").write_bytes(sccodec.encode(picture, profile="tiny-1"))
    narrow = os.environ | {"PYTHONIOENCODING": "cp1252"}
    result = finish(start("verify", "写真.scc", cwd=tmp_path, env=narrow))
    assert (result.code, result.out) == (0, rb"\u5199\u771f.scc: ok" + os.linesep.encode())


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes streams")
def test_closed_streams(tmp_path, picture, tiny_model):
    """Nobody to tell is no reason to fail; nothing to read or write is one of one line."""
    Image.fromarray(picture).save(tmp_path / "photo.png")

    def shell(text: str) -> Result:
        command = text.replace("sccodec", f"{sys.executable} -m sccodec")
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=60)
        return Result(done.returncode, done.stdout, done.stderr.decode())

    encode = "encode --profile tiny-1 --step 300 photo.png"
    assert shell(f"sccodec {encode} -o a.scc 2>&-").code == 0
    assert shell("sccodec decode a.scc -o a.png 2>&-").code == 0
    assert shell("sccodec verify a.scc 2>&-").out == b"a.scc: ok\n"
    for command, stream in (
        ("info - <&-", "stdin"),
        ("encode --profile tiny-1 - <&-", "stdin"),
        ("decode --files-from - <&-", "stdin"),
        ("decode a.scc -o - >&-", "stdout"),
    ):
        result = shell(f"sccodec {command}")
        assert (result.code, result.err) == (1, f"sccodec: error: {stream} is closed\n")


in_proc = pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").is_file(),
    reason="children are found in /proc",
)


def batch_in_processes(folder: Path) -> tuple[subprocess.Popen, list[str]]:
    """A command with two workers that have just begun, and their numbers."""
    names = [f"{n}.npy" for n in range(6)]
    for name in names:
        np.save(folder / name, np.random.default_rng(1).normal(size=(16, 32, 32)))
    process = start(
        *("encode", *names, "--rate", "1", "-j", "2", "-o", "out/"),
        cwd=folder,
        start_new_session=True,
        # Whoever runs the tests in the background may ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    children, found = Path(f"/proc/{process.pid}/task/{process.pid}/children"), []
    while len(found) < 3:  # the tracker of resources, and both workers
        assert process.poll() is None
        time.sleep(0.005)
        found = children.read_text().split()
    return process, found


def runs(number: str) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@in_proc
def test_processes_end_with_the_one_that_made_them(tmp_path):
    process, children = batch_in_processes(tmp_path)
    process.kill()
    process.communicate(timeout=60)  # which ends only when nobody holds its streams any more
    for _ in range(600):
        if not any(map(runs, children)):
            break
        time.sleep(0.05)
    assert not any(map(runs, children))


@in_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_processes_that_have_just_begun_end_without_a_word(tmp_path, number):
    process, _ = batch_in_processes(tmp_path)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err in (b"", b"sccodec: interrupted\n")
    assert not list(tmp_path.rglob("*.part*"))


def test_output_that_nobody_reads_is_not_a_traceback(tmp_path, picture, tiny_model):
    (tmp_path / "a.scc").write_bytes(sccodec.encode(picture, profile="tiny-1"))
    for arguments in (
        ["decode", "a.scc", "-o", "-"],
        ["extract", "a.scc", "-o", "-"],
        ["info", "a.scc"],
    ):
        process = start(*arguments, cwd=tmp_path)
        process.stdout.close()  # before the child has begun to write
        process.stdin.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait(60) in (0, 1)
        assert "Traceback" not in err
        assert "rror" not in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_written_and_not_replaced(tmp_path, picture, tiny_model):
    (tmp_path / "a.scc").write_bytes(sccodec.encode(picture, profile="tiny-1"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("extract", tmp_path / "a.scc", "-o", pipe)
    got = Path(pipe).read_bytes()
    assert finish(process).code == 0
    assert got == sccodec.extract(tmp_path / "a.scc", "base")
    assert pipe.is_fifo()


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("words", "code"), [("--version >&-", 0), ("--version >/dev/full", 1), ("bogus 2>&-", 1)]
)
def test_a_process_ends_as_told_whatever_its_streams_are(words, code):
    if "full" in words and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    command = f'exec "$0" -m sccodec {words}'
    run = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, timeout=60)
    assert run.returncode == code, run.stderr
    assert b"Traceback" not in run.stderr
