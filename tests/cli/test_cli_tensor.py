"""Feature tensors on the command line."""

import json
import os

import numpy as np
import pytest
from shell import flip, listing, run

import sccodec
from sccodec.cli import batch
from sccodec.errors import LimitExceeded
from sccodec.media.tensor import from_array, read, write


@pytest.fixture
def folder(tmp_path):
    """a.npy and b.npy, and both in ab.safetensors."""
    random = np.random.default_rng(0)
    arrays = {
        name: np.maximum(random.normal(size=shape), 0).astype(np.float32)
        for name, shape in (("a", (16, 14, 14)), ("b", (8, 9, 10)))
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    with open(tmp_path / "ab.safetensors", "wb") as out:
        write([from_array(array, name) for name, array in arrays.items()], out, "safetensors")
    return tmp_path


def test_there_and_back(folder):
    done = run("encode", folder / "a.npy", "--rate", 0.7, "--json")
    (row,) = done.rows()
    assert row["bits_per_element"] == pytest.approx(0.7, rel=0.06)
    assert row["elements"] == 16 * 14 * 14
    assert row["bytes"] == (folder / "a.scc").stat().st_size
    done = run("decode", folder / "a.scc", "-o", folder / "again.npy")
    assert "tensor 16x14x14" in done.err
    again = np.load(folder / "again.npy")
    np.testing.assert_array_equal(again, sccodec.decode(folder / "a.scc"))
    assert run("verify", folder / "a.scc").out.endswith(b": ok\n")


def test_the_suffix_of_the_output_says_its_kind(folder):
    assert run("encode", folder / "ab.safetensors", "--levels", 5).code == 0
    wanted = sccodec.decode(folder / "ab.scc")
    for suffix in ("npz", "safetensors"):
        out = folder / f"out.{suffix}"
        assert run("decode", folder / "ab.scc", "-o", out).code == 0
        for tensor in read(out):
            np.testing.assert_array_equal(tensor.values, wanted[tensor.name])
    done = run("decode", folder / "ab.scc", "-o", folder / "out.npy")
    assert "2 tensors do not fit into one .npy file" in done.errors[0]
    assert not (folder / "out.npy").exists()
    done = run("decode", folder / "ab.scc", "--tensor", "b", "-o", folder / "out.npy", "--json")
    assert done.rows()[0]["tensors"] == {"b": [8, 9, 10]}
    assert done.rows()[0]["bytes_read"] < done.rows()[0]["bytes"]
    np.testing.assert_array_equal(np.load(folder / "out.npy"), wanted["b"])
    assert "no tensor 'c'" in run("decode", folder / "ab.scc", "--tensor", "c", "--format", "npy",
                                  "-o", folder / "c.npy").errors[0]  # fmt: skip


def test_layers_are_stripped_and_joined_as_those_of_pictures(folder):
    assert run("encode", folder / "a.npy", "--levels", "2,4").code == 0
    parts = folder / "base.scc", folder / "rest.scc"
    assert run("extract", folder / "a.scc", "-o", parts[0], "--rest", parts[1]).code == 0
    assert run("join", *parts, "-o", folder / "again.scc").code == 0
    assert (folder / "again.scc").read_bytes() == (folder / "a.scc").read_bytes()
    for arguments in ((parts[0],), (folder / "a.scc", "--layers", "base")):
        assert run("decode", *arguments, "-o", folder / "base.npy", "-f").code == 0
        np.testing.assert_array_equal(
            np.load(folder / "base.npy"), sccodec.decode(folder / "a.scc", "base")
        )


def test_info_adds_up(folder):
    run("encode", folder / "ab.safetensors", "--levels", "2,4")
    (facts,) = run("info", folder / "ab.scc", "--json").rows()
    sizes = sum(layer["bytes"] for layer in facts["layers"]) + sum(facts["metadata"].values())
    assert sizes + facts["overhead_bytes"] == facts["bytes"] == (folder / "ab.scc").stat().st_size
    assert [tensor["levels"] for tensor in facts["tensors"]] == [[2, 4], [2, 4]]
    text = run("info", folder / "ab.scc").out.decode()
    assert "  a: 16x14x14 float32, 2,4 levels, 0 to " in text
    assert text.splitlines()[-1].split()[:2] == ["file", str(facts["bytes"])]


def test_names_of_tensors_do_not_reach_the_terminal_raw(folder):
    name = "x\x1b]0;title\x07\nlayer  fake"
    (folder / "odd.scc").write_bytes(sccodec.encode({name: np.ones((2, 3), np.float32)}))
    shown = run("info", folder / "odd.scc").out.decode()
    assert r"  x\x1b]0;title\x07\nlayer  fake: 2x3 float32" in shown
    assert run("info", folder / "odd.scc", "--json").rows()[0]["tensors"][0]["name"] == name


def test_append_makes_one_file_of_many(folder):
    out = folder / "all.scc"
    before = listing(folder)
    assert run("encode", folder / "a.npy", "--append", "-o", out).code == 0
    assert run("encode", folder / "b.npy", "--append", "-o", out).code == 0
    assert list(sccodec.decode(out)) == ["a", "b"]
    assert set(listing(folder)) - set(before) == {str(out)}
    whole = out.read_bytes()
    done = run("encode", folder / "b.npy", "--append", "-o", out)
    assert done.code == 1
    assert "holds a tensor 'b' already" in done.errors[0]
    assert out.read_bytes() == whole
    assert run("encode", folder / "b.npy", "--append").code == 1


def test_a_calibration_is_stored_and_reused(folder):
    stored = folder / "c.json"
    done = run("calibrate", folder / "a.npy", folder / "b.npy", "--levels", 3, "-o", stored)
    assert (done.code, done.err) == (0, f"tensor: 3 levels -> {stored}\n")
    assert json.loads(stored.read_text())["format"] == 1
    assert run("calibrate", folder / "a.npy", "-o", stored).code == 1
    for name in ("a", "b"):
        assert run("encode", folder / f"{name}.npy", "--calibration", stored).code == 0
        (facts,) = run("info", folder / f"{name}.scc", "--json").rows()
        assert facts["tensors"][0]["levels"] == [3]
    limits = [sccodec.info(folder / f"{n}.scc")["tensors"][0]["limits"] for n in "ab"]
    assert limits[0] == limits[1]


def test_a_basis_is_learnt_and_needed(folder):
    stored, values = folder / "c.json", np.load(folder / "a.npy")
    done = run("calibrate", folder / "a.npy", folder / "a.npy", "--basis", "-o", stored)
    count = values.shape[0]
    assert (done.code, done.err) == (0, f"tensor: a basis of {count} channels -> {stored}\n")
    how = ("--calibration", stored, "--rate", 2, "--transform")
    assert run("encode", folder / "a.npy", *how).code == 0
    (facts,) = run("info", folder / "a.scc", "--json").rows()
    assert f"basis {facts['tensors'][0]['basis']}" in run("info", folder / "a.scc").out.decode()
    done = run("decode", folder / "a.scc", "-o", folder / "c.npy")
    assert (done.code, "--calibration" in done.err) == (3, True)
    assert not (folder / "c.npy").exists()
    done = run("decode", folder / "a.scc", "-o", folder / "c.npy", "--calibration", stored)
    assert done.code == 0
    again = np.load(folder / "c.npy")
    assert np.square(again - values).mean() < 0.3 * values.var()
    done = run("calibrate", folder / "a.npy", "--basis", "--levels", 3, "-o", folder / "d.json")
    assert (done.code, "for every rate" in done.err) == (1, True)
    done = run("decode", folder / "a.scc", "-o", folder / "c.png", "--calibration", stored)
    assert (done.code, "for tensors" in done.err) == (1, True)


def test_no_elements_have_no_rate(folder):
    np.save(folder / "none.npy", np.zeros((0, 3), np.float32))
    done = run("encode", folder / "none.npy")
    assert done.code == 0
    assert done.err.endswith("bytes, no elements\n")


def test_a_bound_and_a_size(folder):
    assert run("encode", folder / "a.npy", "--max-abs-error", 0.1).code == 0
    difference = sccodec.decode(folder / "a.scc") - np.load(folder / "a.npy")
    assert np.abs(difference).max() <= 0.1
    assert run("encode", folder / "a.npy", "--max-bytes", 600, "-f").code == 0
    assert (folder / "a.scc").stat().st_size <= 600


def test_stdin_and_stdout(folder):
    raw = (folder / "a.npy").read_bytes()
    done = run("encode", "-", "--profile", "tensor", "--levels", 3, "-o", "-", stdin=raw)
    assert done.out == sccodec.encode(folder / "a.npy", levels=3)
    again = run("decode", "-", "--format", "npy", "-o", "-", stdin=done.out)
    np.testing.assert_array_equal(read(again.out)[0].values, sccodec.decode(done.out))


def test_what_is_damaged_is_said(folder):
    assert run("encode", folder / "a.npy", "--levels", "2,4").code == 0
    wrong = folder / "wrong.scc"
    wrong.write_bytes(flip((folder / "a.scc").read_bytes(), 1, 0))
    assert run("verify", wrong).code == 2
    assert run("decode", wrong, "-o", folder / "x.npy").code == 2
    assert not (folder / "x.npy").exists()
    done = run("decode", wrong, "-o", folder / "x.npy", "--allow-partial", "--json")
    assert done.code == 2
    assert done.rows()[0]["damaged"][0]["layer"] == "enhancement"
    np.testing.assert_array_equal(
        np.load(folder / "x.npy"), sccodec.decode(folder / "a.scc", "base")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "a.npy", "--quality", "3"], "--quality is for pictures"),
        (["encode", "a.npy", "--roi", "0,0,1,1"], "--roi is for pictures"),
        (["encode", "a.npy", "p.png"], "pictures and tensors together"),
        (["encode", "a.npy", "--step", "0"], "--step is for pictures"),
        (["encode", "a.npy", "-e", "0"], "--effort is for pictures"),
        (["encode", "a.npy", "--append", "--skip-existing", "-o", "x.scc"], "--append and --skip"),
        (["encode", "a.npy", "--append", "--keep-tree", "-o", "x.scc"], "--append and --keep-tree"),
        (["encode", "p.png", "--levels", "3"], "--levels is for tensors"),
        (["encode", "p.png", "--append", "-o", "x.scc"], "--append is for tensors"),
        (["encode", "p.png", "--no-check"], "--no-check is for tensors"),
        (["encode", "p.png", "--filter"], "--filter is for tensors"),
        (["encode", "a.npy", "--levels", "x"], "not a number of levels"),
        (["encode", "a.npy", "--clip", "1,x"], "not two numbers"),
        (["encode", "a.npy", "--channel-axis", "x"], "neither an axis"),
        (["encode", "nan.npy"], "1 of 4 elements"),
        (["encode", "a.npy", "--calibration", "nan.npy"], "no calibration"),
        (["decode", "p.scc", "-o", "x.npy"], "holds no tensors"),
        (["decode", "t.scc", "-o", "x.png"], "holds tensors"),
        (["decode", "t.scc"], "holds tensors"),
        (["decode", "t.scc", "-o", "x.npy", "--region", "0,0,1,1"], "--region and --damage-map"),
    ],
)
def test_refusals(folder, monkeypatch, tiny_model, arguments, message):
    monkeypatch.chdir(folder)
    np.save("nan.npy", np.array([1, 2, np.nan, 4], np.float32))
    picture = np.full((64, 64, 3), 9, np.uint8)
    (folder / "p.scc").write_bytes(sccodec.encode(picture, profile="tiny-1"))
    (folder / "t.scc").write_bytes(sccodec.encode(folder / "a.npy"))
    done = run(*arguments)
    assert done.code
    assert message in done.errors[0]


# -- several processes -------------------------------------------------------------------------


def test_files_in_processes_of_their_own_become_the_same(folder):
    (folder / "c.npy").write_bytes(b"no array")
    names = [folder / f"{name}.npy" for name in "acb"]
    told = {}
    for jobs in (1, 2):
        out = folder / f"out{jobs}"
        done = run("encode", *names, "--levels", 4, "-o", f"{out}/", "-j", jobs)
        assert done.code
        again = run("decode", out / "a.scc", out / "b.scc", "--format", "npy", "-j", jobs)
        assert again.code == 0
        told[jobs] = (done.err + again.err).replace(out.name, "out"), done.code
    assert told[1] == told[2]
    assert "c.npy" in told[1][0]
    assert "1 of 3 failed" in told[1][0]
    one, two = (list(listing(folder / f"out{jobs}").values()) for jobs in (1, 2))
    assert len(one) == 4
    assert one == two


def test_without_processes_threads_take_turns(folder, monkeypatch):
    def none(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(batch, "processes", none)
    done = run("encode", folder / "a.npy", folder / "b.npy", "-j", 2, "--levels", 4)
    assert done.code == 0 and "threads take turns" in done.err
    assert (folder / "a.scc").exists() and (folder / "b.scc").exists()


def test_a_process_that_is_killed_is_no_riddle():
    with pytest.raises(LimitExceeded, match="was killed"):
        list(batch._in_order(os._exit, [9, 9, 9], 2, True))
