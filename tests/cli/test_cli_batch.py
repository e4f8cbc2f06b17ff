"""Many files in one command: lists of names, threads, what was done before, what fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image
from shell import flip, listing, run

import sccodec
from sccodec.transform import graphs

TINY = ("--profile", "tiny-1", "--step", 300)
NAMES = ["a.png", "b c.png", "line\nfeed.png", "-.png", "é.png"]


@pytest.fixture(scope="module")
def pictures(tiny_model) -> dict[str, np.ndarray]:
    return {name: picture(64, 96, seed=n) for n, name in enumerate(NAMES)}


@pytest.fixture
def folder(tmp_path, pictures, monkeypatch):
    """The working folder, with in/ for the pictures."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(Path("in") / name)
    return tmp_path


@pytest.fixture
def sccs(folder, pictures) -> list[str]:
    """The same as .scc files, in coded/."""
    Path("coded").mkdir()
    names = [f"coded/{n}.scc" for n in range(len(pictures))]
    for name, pixels in zip(names, pictures.values(), strict=True):
        Path(name).write_bytes(sccodec.encode(pixels, profile="tiny-1", step=300))
    return names


def inputs() -> list[str]:
    return [f"in/{name}" for name in NAMES]


# -- lists of names -----------------------------------------------------------------------------


def test_names_separated_by_nul_may_hold_anything(folder):
    names = b"".join(os.fsencode(name) + b"\0" for name in inputs())
    result = run("encode", *TINY, "--files-from", "-", "-0", "-o", "out/", stdin=names)
    assert result.code == 0, result.err
    assert {p.name for p in Path("out").iterdir()} == {f"{Path(n).stem}.scc" for n in NAMES}
    lines = result.err.splitlines()
    assert len(lines) == len(NAMES)  # a line feed in a name makes no line
    assert lines[2].startswith(r"[3/5] in/line\nfeed.png -> out/line\nfeed.scc: ")
    result = run("info", "--files-from", "-", "--null", "--json", stdin=b"out/line\nfeed.scc")
    assert [row["input"] for row in result.rows()] == ["out/line\nfeed.scc"]
    result = run("info", "--files-from", "-", "-0", stdin=b"out/line\nfeed.scc\0")
    assert result.out.startswith(rb"out/line\nfeed.scc: 96x64")


def test_every_command_that_reads_files_takes_a_list(sccs):
    Path("list").write_text("\r\n".join(sccs[1:]) + "\n\n")
    for command in (
        ["decode", "-o", "out/"],
        ["extract", "-o", "base/"],
        ["info", "--json"],
        ["verify", "--json"],
    ):
        result = run(*command, sccs[0], "--files-from", "list")
        assert result.code == 0, result.err
        lines = result.out.splitlines() or result.err.splitlines()
        assert len(lines) == len(sccs)
        assert sccs[0].encode() in str(lines[0]).encode()
    assert len(list(Path("out").iterdir())) == len(list(Path("base").iterdir())) == len(sccs)


def test_a_dash_in_a_list_is_a_file(sccs):
    Path("-").write_bytes(Path(sccs[0]).read_bytes())
    result = run("info", "--files-from", "-", stdin=b"-\n")
    assert result.out.startswith(b"./-: 96x64")


def test_an_empty_list_is_no_error(folder):
    for command in (["encode", *TINY], ["verify"], ["extract", "-o", "out/"]):
        result = run(*command, "--files-from", "-")
        assert (result.code, result.out) == (0, b"")
        assert result.err == "sccodec: no files in the list, nothing to do\n"


def test_a_name_that_is_no_text_does_not_stop_the_rest(sccs):
    result = run("verify", "--files-from", "-", stdin=b"caf\xe9.scc\n" + sccs[0].encode())
    assert (result.code, result.out) == (1, b"coded/0.scc: ok\n")
    assert result.errors == [
        r"sccodec: error: caf\udce9.scc: no such file or directory",
    ]


def test_the_tree_of_the_inputs_is_kept(folder):
    Path("in/deep").mkdir()
    Path("in/deep/a.png").write_bytes(Path("in/a.png").read_bytes())
    same = ["in/a.png", "in/deep/a.png"]
    result = run("encode", *TINY, *same, "-o", "out/")
    assert result.errors == ["sccodec: error: several inputs would become out/a.scc"]
    assert result.hints == ["sccodec: hint: --keep-tree keeps folders apart"]
    assert run("encode", *TINY, *same, "-o", "out/", "--keep-tree").code == 0
    assert Path("out/in/a.scc").read_bytes() == Path("out/in/deep/a.scc").read_bytes()
    above = os.path.join(os.pardir, folder.name, "in", "a.png")
    result = run("encode", *TINY, above, "-o", "out/", "--keep-tree")
    assert "lies above the current folder" in result.errors[0]
    absolute = folder / "in" / "a.png"
    assert run("encode", *TINY, absolute, "-o", "out/", "--keep-tree").code == 0
    assert Path(f"out{absolute.with_suffix('.scc')}").exists()


# -- several threads ----------------------------------------------------------------------------


@pytest.mark.usefixtures("all_cores")
def test_threads_change_neither_bytes_nor_order(folder):
    one = run("encode", *TINY, *inputs(), "-o", "one/")
    many = run("encode", *TINY, *inputs(), "-o", "many/", "-j", 4)
    assert (one.code, many.code) == (0, 0)
    assert many.err == one.err.replace("one/", "many/")
    assert [*listing(Path("many")).values()] == [*listing(Path("one")).values()]
    files = sorted(map(str, Path("many").iterdir()))
    for command in (["decode", "-o", "{}/"], ["verify"]):
        told = []
        for jobs in (1, 4):
            out = f"decoded{jobs}"
            result = run(*(w.format(out) for w in command), *files, "-j", jobs, "--json")
            told.append(result.out.replace(out.encode(), b""))
        assert told[0] == told[1]
    assert [*listing(Path("decoded1")).values()] == [*listing(Path("decoded4")).values()]


@pytest.mark.usefixtures("all_cores")
def test_threads_keep_the_order_of_errors_and_results(folder):
    Path("in/bad.png").write_bytes(b"no picture")
    names = [inputs()[0], "in/bad.png", *inputs()[1:], "in/missing.png"]
    result = run("encode", *TINY, *names, "-o", "out/", "-j", 3)
    assert result.code == 2
    lines = [line for line in result.err.splitlines() if "hint" not in line]
    assert lines[0].startswith("[1/7] in/a.png")
    assert lines[1].startswith("sccodec: error: in/bad.png: ")
    assert [line[:6] for line in lines[2:6]] == ["[3/7] ", "[4/7] ", "[5/7] ", "[6/7] "]
    assert lines[6].startswith("sccodec: error: in/missing.png: no such file")
    assert lines[7:] == ["sccodec: 2 of 7 failed"]
    rows = run("encode", *TINY, *names, "-o", "out/", "-j", 3, "-f", "--json").rows()
    assert [row["input"] for row in rows] == names


def test_an_error_names_its_input_once(folder):
    names = inputs()[:2]
    result = run("encode", "--profile", "tiny-1", *names, "-o", "out/", "--max-bytes", 10)
    lines = [line for line in result.err.splitlines() if line.startswith("sccodec: error: ")]
    assert [line.split(": ")[2] for line in lines] == names
    assert [line.count("in/") for line in lines] == [1, 1]
    assert "10 bytes are too few" in lines[0]
    alone = run("encode", "--profile", "tiny-1", names[0], "--max-bytes", 10)
    assert alone.errors[0].startswith("sccodec: error: 10 bytes are too few")


def test_no_more_pictures_at_once_than_threads(folder, monkeypatch):
    from sccodec.codecs import image

    at_once, most, lock = 0, 0, threading.Lock()
    encode = image.encode

    def watched(*arguments):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        try:
            return encode(*arguments)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(image, "encode", watched)
    assert run("encode", *TINY, *inputs(), "-o", "out/", "-j", 2).code == 0
    assert most == 2


def test_the_model_is_loaded_once(folder, monkeypatch):
    from sccodec.profiles import registry

    loaded, load = [], graphs.Graph._load

    def counted(graph):
        loaded.append(graph.path.name)
        time.sleep(0.05)  # so that others come meanwhile
        return load(graph)

    monkeypatch.setattr(graphs.Graph, "_load", counted)
    monkeypatch.setattr(registry, "_loaded", {})
    assert run("encode", *TINY, *inputs(), "-o", "out/", "-j", 4).code == 0
    assert sorted(loaded) == sorted(set(loaded))


# -- resuming -----------------------------------------------------------------------------------


def test_what_is_finished_is_skipped(folder):
    assert run("encode", *TINY, *inputs()[:2], "-o", "out/").code == 0
    before = {p: p.stat().st_mtime_ns for p in Path("out").iterdir()}
    refused = run("encode", *TINY, *inputs(), "-o", "out/", "--json")
    assert (refused.code, len(list(Path("out").iterdir()))) == (1, len(NAMES))
    Path("out/é.scc").unlink()
    result = run("encode", *TINY, *inputs(), "-o", "out/", "--skip-existing", "-j", 2)
    assert result.code == 0
    lines = result.err.splitlines()
    assert lines[0] == "[1/5] in/a.png -> out/a.scc: skipped, it exists"
    assert "bytes" in lines[4]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    rows = run("encode", *TINY, *inputs(), "-o", "out/", "--skip-existing", "--json").rows()
    assert rows == [
        {"input": source, "output": f"out/{Path(source).stem}.scc", "skipped": True}
        for source in inputs()
    ]


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupted_run_leaves_whole_files_and_goes_on(folder, number, code, jobs):
    names = [f"{n}.png" for n in range(40)]
    for name in names:
        Path(name).write_bytes(Path("in/a.png").read_bytes())
    command = ["encode", *TINY, "-j", jobs, *names, "-o", "out/"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sccodec", *map(str, command)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(sccodec.__file__).parents[1])},
        # Tests that run in the background inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stderr.readline()  # the first is done
    process.send_signal(number)
    err = process.communicate(timeout=60)[1].decode()
    assert (process.returncode, "Traceback" in err) == (code, False), err
    done = list(Path("out").iterdir())
    assert 0 < len(done) < len(names)
    whole = sccodec.encode("in/a.png", profile="tiny-1", step=300)
    assert all(path.suffix == ".scc" and path.read_bytes() == whole for path in done)
    result = run(*command, "--skip-existing")
    assert (result.code, result.err.count("skipped")) == (0, len(done))
    assert {path.name for path in Path("out").iterdir()} == {f"{n}.scc" for n in range(40)}


# -- layers of many files -----------------------------------------------------------------------


def test_layers_of_many_files_come_apart_and_go_back(sccs):
    Path(sccs[2]).write_bytes(flip(Path(sccs[2]).read_bytes(), layer=1, tile=0))
    result = run("extract", *sccs, "-o", "base/", "--rest", "rest/", "--json")
    assert result.code == 2
    assert [row.get("code") for row in result.rows()] == [None, None, 2, None, None]
    left = ["0.scc", "1.scc", "3.scc", "4.scc"]
    for folder in ("base", "rest"):  # of the damaged one neither half
        assert sorted(p.name for p in Path(folder).iterdir()) == left
    for name in left:
        assert run("join", f"rest/{name}", f"base/{name}", "-o", "again.scc", "-f").code == 0
        assert Path("again.scc").read_bytes() == Path(f"coded/{name}").read_bytes()


def test_one_half_that_is_there_is_left_and_the_other_is_written(sccs):
    command = ["extract", *sccs[:2], "-o", "base/", "--rest", "rest/"]
    assert run(*command).code == 0
    whole = {**listing(Path("base")), **listing(Path("rest"))}
    Path("base/0.scc").unlink()
    Path("rest/1.scc").unlink()
    assert run(*command).code == 1
    assert run(*command, "--skip-existing").code == 0
    assert {**listing(Path("base")), **listing(Path("rest"))} == whole


def test_several_files_need_folders(sccs):
    before = listing(Path())
    for options in (["-o", "one.scc"], ["-o", "coded", "--rest", "one.scc"], ["-o", "-"]):
        assert run("extract", *sccs, *options).code == 1
    assert run("extract", *sccs, "-o", "coded/", "--rest", "coded").code == 1
    for other in (f"{os.curdir}/coded/one.scc", Path("coded/one.scc").resolve()):
        Path("one.scc").write_bytes(Path(sccs[0]).read_bytes())
        result = run("extract", "one.scc", "-o", other, "--rest", "coded/", "-f")
        Path("one.scc").unlink()
        assert result.errors == [f"sccodec: error: -o and --rest both name {other}"]
    assert listing(Path()) == before
