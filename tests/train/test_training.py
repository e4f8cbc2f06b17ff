"""A tiny model through the whole life of a model: train, resume, export, encode, decode."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import tarfile
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs the [train] extra")
pytest.importorskip("onnx", reason="export needs the [train] extra")

from sccodec.cli import cli
from sccodec.cli.export import whole_folder
from sccodec.entropy.tables import TOTAL
from sccodec.errors import BadRequest, CodecError
from sccodec.latents import quantize
from sccodec.latents.quantize import Analysed
from sccodec.threads import exit_when_told
from sccodec.train import data, export, loop
from sccodec.train.loss import likeness, rate_distortion
from sccodec.train.model import Coded, PictureModel, load, save, save_weights, start
from sccodec.train.networks import GAIN, Depthwise, Finish, Lap, Shape
from sccodec.train.prior import Quantiser

TINY = Shape(
    base=6, enhancement=10, hyper=(2, 3), wide8=6, wide16=8, analysis8=1, analysis16=1,
    synthesis8=1, synthesis16=1, base_wide=6, base_bricks=1, prior_wide=(6, 8), context_steps=2,
)  # fmt: skip

RECIPE = """
name = "tiny"
sources = ["train.tar"]
validation = ["val"]
steps = 3
batch = 2
crop = 64
validate_crops = 1
validate_at = [2.0, 8.0]
[network]
base = 6
enhancement = 10
hyper = [2, 3]
wide8 = 6
wide16 = 8
analysis8 = 1
analysis16 = 1
synthesis8 = 1
synthesis16 = 1
base_wide = 6
base_bricks = 1
prior_wide = [6, 8]
"""


def scene(seed: int, size: int = 96) -> np.ndarray:
    """A smooth gradient with a bright disc and a little noise, (size, size, 3) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    plane = np.stack([x, y, (x + y) / 2], -1) * random.uniform(80, 200, 3)
    disc = ((x - random.random()) ** 2 + (y - random.random()) ** 2 < 0.05)[..., None] * 50
    return np.clip(plane + disc + random.normal(0, 3, plane.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with a tar to train on and a folder to validate on, and a recipe."""
    root = tmp_path_factory.mktemp("data")
    (root / "val").mkdir()
    Image.fromarray(scene(99)).save(root / "val" / "held_out.png")
    with tarfile.open(root / "train.tar", "w") as tar:
        for n in range(4):
            Image.fromarray(scene(n)).save(root / f"{n}.png")
            tar.add(root / f"{n}.png", f"{n}.png")
    (root / "tiny.toml").write_text(RECIPE)
    return root


def run(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result


def fails(*arguments) -> str:
    """What it says, in the place of a traceback."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), result.output
    return result.stderr


def test_a_run_is_validated_resumed_exported_and_codes_pictures(folder, tmp_path, monkeypatch):
    out, models = tmp_path / "run", tmp_path / "models"
    train = ("train", folder / "tiny.toml", "--data", folder, "-o", out, "--device", "cpu")
    run(*train)
    assert load(out / "last.pt")[1]["step"] == 3
    run(*train, "--max-steps", 5)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["at_step"] for entry in log] == [3, 5]
    assert all(point["bpp"] > 0 for entry in log for point in entry["points"])
    export = ("export", out / "best.pt", "--recipe", folder / "tiny.toml", "--data", folder)
    result = run(*export, "-o", models / "life-1", "--id", "life-1", "--cache", tmp_path / "cache")
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [row["step"] for row in rows] == [2.0, 8.0]
    assert all(abs(row["cost"]) < 0.02 for row in rows)  # few bits, so a bit weighs much
    low, high = loop.read_recipe(folder / "tiny.toml").log2_step
    steps = json.loads((models / "life-1" / "model.json").read_text())["steps"]
    assert steps == [round(256 + 32 * low - 40), round(256 + 32 * high + 32)]
    monkeypatch.setenv("SCCODEC_MODELS", str(models))
    picture, coded = tmp_path / "picture.png", tmp_path / "picture.scc"
    Image.fromarray(scene(7)).save(picture)
    run("encode", picture, "--profile", "life-1", "--step", 240, "-o", coded)
    run("decode", coded, "-o", tmp_path / "decoded.png")
    decoded = np.asarray(Image.open(tmp_path / "decoded.png")).astype(float)
    assert np.abs(decoded - scene(7)).mean() < 8


@pytest.fixture
def stoppable():
    """Signals as the console script has them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_when_told()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory):
    """What a run of three steps has left."""
    out = tmp_path_factory.mktemp("run")
    recipe = loop.read_recipe(folder / "tiny.toml")
    loop.Run(recipe, folder, out, out / "cache", "cpu").train(say=lambda _: None)
    return out / "best.pt"


def test_an_exported_model_is_replaced_only_by_force(folder, checkpoint, tmp_path, monkeypatch):
    to = ("--recipe", folder / "tiny.toml", "--cache", tmp_path / "cache", "--id", "one-1")
    export = ("export", checkpoint, *to, "--data", folder, "-o", tmp_path / "one-1")
    run(*export)
    digest = (tmp_path / "one-1" / "digest.txt").read_text()
    assert fails(*export, "--note", "other").endswith("--force replaces it\n")
    assert (tmp_path / "one-1" / "digest.txt").read_text() == digest
    (tmp_path / "one-1" / "left.onnx").write_bytes(b"of a model before")
    run(*export, "-f", "--note", "other")
    assert not (tmp_path / "one-1" / "left.onnx").exists()
    (tmp_path / "one-1" / "README.md").write_text("mine")
    (tmp_path / "link").symlink_to("one-1")
    run(*export[:-1], tmp_path / "link", "-f")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "one-1" / "README.md").exists()
    monkeypatch.chdir(tmp_path / "one-1")
    run(*export[:-1], ".", "-f")
    assert (tmp_path / "one-1" / "digest.txt").read_text() == digest
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    assert "holds other files" in fails(*export[:-1], tmp_path / "mine", "-f")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cache", "link", "mine", "one-1"]


@pytest.mark.parametrize("at", [0, 3, 9, 14])
def test_an_interrupted_replacement_leaves_the_model_before(tmp_path, monkeypatch, at):
    def contents() -> dict:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    files = ["model.json", "digest.txt", "prior.npz", *(f"{n}.onnx" for n in range(5))]
    for name in (*files, "README.md"):
        (tmp_path / name).write_bytes(b"old " + name.encode())
    before, moved, replace_ = contents(), [], type(tmp_path).replace

    def interrupted(path, target):
        moved.append(path)
        if len(moved) == at + 1:
            raise KeyboardInterrupt
        return replace_(path, target)

    def export_again():
        with whole_folder(tmp_path) as part:
            for name in files[:-1]:
                (part / name).write_bytes(b"new")

    monkeypatch.setattr(type(tmp_path), "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_again()
    assert contents() == before


def test_an_export_that_fails_leaves_no_model(folder, checkpoint, tmp_path, monkeypatch):
    to = ("--recipe", folder / "tiny.toml", "--cache", tmp_path / "cache", "-o", tmp_path / "m")
    export_ = ("export", checkpoint, *to, "--id", "dear-1")
    assert "training data not found" in fails(*export_, "--data", tmp_path / "nowhere")
    monkeypatch.setattr(export, "WORST_COST", -1.0)
    assert "rounding to the exact grid costs" in fails(*export_, "--data", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("name", ["a\nb", "a/b", "..", "-", "\x1b[0m", "x" * 300, "photo", ""])
def test_ids_that_files_cannot_name_are_refused(folder, checkpoint, tmp_path, name):
    to = ("--recipe", folder / "tiny.toml", "--data", folder, "-o", tmp_path / "m")
    fails("export", checkpoint, *to, f"--id={name}")
    assert not (tmp_path / "m").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    folder, checkpoint, tmp_path, monkeypatch
):
    path = tmp_path / "best.pt"
    path.write_bytes(checkpoint.read_bytes())

    def full(content, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        save(path, PictureModel(TINY))
    assert path.read_bytes() == checkpoint.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("stoppable")
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_what_was_learnt_until_a_stop_is_kept(folder, tmp_path, monkeypatch, told):
    recipe = replace(loop.read_recipe(folder / "tiny.toml"), steps=50)
    started = loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu")
    update = started._update

    def stop(*arguments):
        if started.step == 4:
            signal.raise_signal(told)  # in the middle of a step, which is taken to its end
        return update(*arguments)

    monkeypatch.setattr(started, "_update", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        started.train(say=lambda _: None)
    assert loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu").step == 5


def test_a_stop_while_validating_keeps_what_was_learnt(folder, tmp_path, monkeypatch):
    recipe = loop.read_recipe(folder / "tiny.toml")
    started = loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu")

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(started, "validate", stop)
    with pytest.raises(KeyboardInterrupt):
        started.train(say=lambda _: None)
    assert loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu").step == 3


@pytest.mark.usefixtures("stoppable")
def test_training_that_diverges_says_so_and_keeps_what_was(folder, tmp_path, monkeypatch):
    recipe = loop.read_recipe(folder / "tiny.toml")
    out = tmp_path / "run"
    loop.Run(recipe, folder, out, tmp_path / "cache", "cpu").train(say=lambda _: None)
    before = (out / "last.pt").read_bytes()
    wild = replace(recipe, rate=1e6, linear_rate=1e6, steps=100, warm_up=0)
    again = loop.Run(wild, folder, out, tmp_path / "cache", "cpu")
    with pytest.raises(CodecError, match="training has diverged: at step"):
        again.train(say=lambda _: None)
    assert (out / "last.pt").read_bytes() == before
    again = loop.Run(wild, folder, out, tmp_path / "cache", "cpu")
    update = again._update

    def stop(*arguments):
        terms = update(*arguments)
        if not torch.isfinite(terms.loss).all():
            signal.raise_signal(signal.SIGINT)
        return terms

    monkeypatch.setattr(again, "_update", stop)
    with pytest.raises(KeyboardInterrupt):
        again.train(say=lambda _: None)
    assert (out / "last.pt").read_bytes() == before


def test_the_same_run_twice_is_the_same(folder, tmp_path):
    recipe = loop.read_recipe(folder / "tiny.toml")
    for name in "ab":
        loop.Run(recipe, folder, tmp_path / name, tmp_path / "cache", "cpu").train(
            say=lambda _: None
        )
    assert (tmp_path / "a" / "log.jsonl").read_text() == (tmp_path / "b" / "log.jsonl").read_text()


@pytest.mark.parametrize("optimiser", ["adam", "soap"])
def test_a_resumed_run_goes_on_with_the_same_weights(folder, tmp_path, optimiser):
    recipe = replace(loop.read_recipe(folder / "tiny.toml"), optimiser=optimiser)
    first = loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu")
    first.train(say=lambda line: None)
    second = loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu")
    assert second.step == first.step and second.best == first.best
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_resumed_run_follows_the_recipe_as_it_is_now(folder, tmp_path):
    recipe = replace(loop.read_recipe(folder / "tiny.toml"), rate=1e-3)
    loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu").train(say=lambda _: None)
    slower = replace(recipe, rate=1e-5, linear_rate=1e-6)
    again = loop.Run(slower, folder, tmp_path / "run", tmp_path / "cache", "cpu")
    assert [group["peak"] for group in again.optimiser.param_groups] == [1e-5, 1e-6]
    for made in ({"optimiser": "soap"}, {"only_entropy": True}):
        with pytest.raises(BadRequest, match="was trained with adam, the recipe says"):
            loop.Run(replace(recipe, **made), folder, tmp_path / "run", tmp_path / "cache", "cpu")
    other = replace(recipe, offsets=False)
    with pytest.raises(BadRequest, match="offsets is True, the recipe says otherwise"):
        loop.Run(other, folder, tmp_path / "run", tmp_path / "cache", "cpu")


def test_exported_weights_start_a_new_run(folder, tmp_path):
    torch.manual_seed(1)
    model = PictureModel(TINY, hyper_steps=False)
    save_weights(tmp_path / "weights.npz", model, quantiser={"hyper_steps": False}, steps=7)
    again, state = load(tmp_path / "weights.npz")
    assert state["steps"] == 7 and not again.entropy.quantiser.hyper_steps
    for name, value in model.state_dict().items():
        assert torch.allclose(value, again.state_dict()[name], rtol=1e-3, atol=1e-6), name


def test_a_new_run_takes_what_fits_of_another_network(folder, tmp_path, capsys):
    other = PictureModel(Shape(**{**TINY.__dict__, "wide8": 12}))
    save_weights(tmp_path / "weights.npz", other)
    recipe = loop.read_recipe(folder / "tiny.toml")
    new = loop.Run(recipe, folder, tmp_path / "run", tmp_path, "cpu", tmp_path / "weights.npz")
    taken, kept = new.model.state_dict(), other.state_dict()
    name = "entropy.base.join.weight"
    assert torch.allclose(taken[name], kept[name], rtol=1e-3, atol=1e-6)
    assert taken["analysis.enter.conv.weight"].shape != kept["analysis.enter.conv.weight"].shape
    assert re.search(r"\d+ of \d+ arrays taken", capsys.readouterr().err)


@torch.no_grad()
def test_bricks_are_added_without_changing_what_a_model_does(folder, tmp_path):
    recipe = loop.read_recipe(folder / "tiny.toml")
    shallow = PictureModel(TINY)
    save_weights(tmp_path / "weights.npz", shallow)
    before = load(tmp_path / "weights.npz")[0].eval()
    deeper = replace(TINY, analysis8=TINY.analysis8 + 2, synthesis16=TINY.synthesis16 + 1)
    recipe = replace(recipe, network=deeper)
    after = loop.Run(recipe, folder, tmp_path / "run", tmp_path, "cpu", tmp_path / "weights.npz")
    x = torch.from_numpy(scene(1)[:64, :64]).permute(2, 0, 1)[None] - 128.0
    log2_step = torch.zeros(1, 1, 1, 1)
    expected, found = (m.eval()(x, log2_step, log2_step) for m in (before, after.model))
    assert torch.equal(found.full, expected.full)
    assert torch.equal(found.enhancement_bits, expected.enhancement_bits)


@torch.no_grad()
def test_channels_are_added_without_changing_what_a_model_does(folder, tmp_path):
    torch.manual_seed(0)
    narrow = PictureModel(TINY)
    leave = narrow.analysis.leave.weight
    for weight in (leave, narrow.synthesis.leave.weight):
        torch.nn.init.normal_(weight, std=0.5)
    save_weights(tmp_path / "weights.npz", narrow)
    before = load(tmp_path / "weights.npz")[0].eval()
    # As from a model whose bricks at 1/8 saw nothing but those at 1/16, and told nothing else.
    for value in (before.synthesis.see.conv.weight, before.synthesis.see.conv.bias):
        value.zero_()
    before.analysis.leave.weight[:, TINY.wide16 :] = 0
    with np.load(tmp_path / "weights.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if ".see." not in name}
    arrays["analysis.leave.weight"] = arrays["analysis.leave.weight"][:, : TINY.wide16]
    np.savez(tmp_path / "older.npz", **arrays)
    wider = replace(TINY, wide8=10, synthesis8=2)
    recipe = replace(loop.read_recipe(folder / "tiny.toml"), network=wider)
    after = loop.Run(recipe, folder, tmp_path / "run", tmp_path, "cpu", tmp_path / "older.npz")
    x = torch.from_numpy(scene(1)[:64, :64]).permute(2, 0, 1)[None] - 128.0
    log2_step = torch.zeros(1, 1, 1, 1)
    expected, found = (m.eval()(x, log2_step, log2_step) for m in (before, after.model))
    torch.testing.assert_close(found.full, expected.full, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.enhancement_bits, expected.enhancement_bits)
    assert after.model.synthesis.see.conv.weight[TINY.wide8 :].abs().min() > 0


@torch.no_grad()
@pytest.mark.parametrize(
    "more",
    [
        {"wide16": 12},
        {"wide8": 10, "wide16": 12, "synthesis16": 2},
        {"wide16": 10, "analysis_wide8": 10, "analysis_wide16": 12},
    ],
)
def test_channels_at_both_resolutions_are_added(folder, tmp_path, more):
    torch.manual_seed(0)
    narrow = PictureModel(TINY)
    for weight in (narrow.analysis.leave.weight, narrow.synthesis.leave.weight):
        torch.nn.init.normal_(weight, std=0.5)
    save_weights(tmp_path / "weights.npz", narrow)
    before = load(tmp_path / "weights.npz")[0]
    wider = replace(loop.read_recipe(folder / "tiny.toml"), network=replace(TINY, **more))
    after = loop.Run(wider, folder, tmp_path / "run", tmp_path, "cpu", tmp_path / "weights.npz")
    x = torch.from_numpy(scene(1)[:64, :64]).permute(2, 0, 1)[None] - 128.0
    log2_step = torch.zeros(1, 1, 1, 1)
    expected, found = (m.eval()(x, log2_step, log2_step) for m in (before, after.model))
    torch.testing.assert_close(found.full, expected.full, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(found.enhancement_bits, expected.enhancement_bits)
    # What is new is shown something, so that it can learn.
    assert after.model.analysis.down.conv.weight[TINY.wide16 :].abs().min() > 0


@torch.no_grad()
def test_latents_are_added_as_what_pictures_lack(folder, tmp_path, capsys):
    recipe = loop.read_recipe(folder / "tiny.toml")
    narrow = loop.Run(recipe, folder, tmp_path / "narrow", tmp_path, "cpu").model
    # From scratch the linear paths are a Karhunen-Loève basis, which more latents would extend.
    save_weights(tmp_path / "weights.npz", narrow)
    more = replace(recipe, network=replace(recipe.network, enhancement=18))
    wide = loop.Run(
        more, folder, tmp_path / "wide", tmp_path, "cpu", tmp_path / "weights.npz"
    ).model
    assert "8 latents added" in capsys.readouterr().err
    x = (
        torch.from_numpy(np.stack([scene(n)[:64, :64] for n in range(4)])).permute(0, 3, 1, 2)
        - 128.0
    )

    def error(model, step):
        log2_step = torch.full((4, 1, 1, 1), np.log2(step).astype(np.float32))
        coded = model.eval()(x, log2_step, log2_step)
        return (coded.full - x).square().mean().item()

    assert error(wide, 0.1) < 0.8 * error(narrow, 0.1)
    assert error(wide, 30.0) < 1.02 * error(narrow, 30.0)


def test_a_compiler_may_have_a_depthwise_convolution_as_products():
    torch.manual_seed(0)
    layer, x = Depthwise(5), torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(layer.as_products(x), layer(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_step_learns(folder, tmp_path):
    recipe = replace(loop.read_recipe(folder / "tiny.toml"), optimiser="soap")
    run = loop.Run(recipe, folder, tmp_path / "run", tmp_path, "cuda")
    before = run.validate()["loss"]
    run.train(say=lambda line: None)
    assert run.records and run.validate()["loss"] < before


def test_a_run_goes_on_with_its_own_network_only(folder, tmp_path):
    recipe = loop.read_recipe(folder / "tiny.toml")
    loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu").checkpoint(
        lambda line: None
    )
    wider = replace(recipe, network=replace(TINY, wide8=12))
    with pytest.raises(BadRequest, match="wide8 is 6, the recipe's is 12"):
        loop.Run(wider, folder, tmp_path / "run", tmp_path / "cache", "cpu")


QUICK = replace(TINY, quick8=4, quick16=6, quick_bricks=1)
EVERYTHING = {"lap", "analysis", "base_synthesis", "synthesis", "finish", "entropy"}


@pytest.mark.parametrize(
    ("how", "trained"),
    [
        ({"only_entropy": True}, {"entropy"}),
        ({"only_quick": True, "network": QUICK}, {"quick"}),
        ({"only_quick": True, "network": QUICK, "imitate": False}, {"quick"}),
        ({"network": QUICK}, EVERYTHING),
        ({"objectives": 2}, EVERYTHING),
    ],
)
def test_ways_to_train(folder, tmp_path, how, trained):
    recipe = replace(loop.read_recipe(folder / "tiny.toml"), batch=4, **how)
    run = loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu")
    torch.nn.init.normal_(run.model.analysis.leave.weight)  # or a quick one has nothing to learn
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train(say=lambda line: None)
    changed = {
        name.split(".")[0]
        for name, value in run.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == trained


def quick_run(folder, tmp_path, **how) -> loop.Run:
    """One that trains the quick analysis alone."""
    how |= {"only_quick": True, "network": QUICK, "rate": 1e-2, "warm_up": 1}
    recipe = replace(loop.read_recipe(folder / "tiny.toml"), **how)
    torch.manual_seed(0)
    return loop.Run(recipe, folder, tmp_path / "run", tmp_path / "cache", "cpu")


def test_a_quick_analysis_learns_the_latents_of_the_whole_one(folder, tmp_path):
    run = quick_run(folder, tmp_path, steps=40)
    torch.nn.init.normal_(run.model.analysis.leave.weight, std=0.3)
    x = run.crops.centred(0)

    def unlike() -> float:
        with torch.no_grad():
            (base, wanted, *_), (same, found, *_) = (run.model.analyse(x, q) for q in (False, True))
        assert torch.equal(base, same)
        return likeness(found, wanted).item()

    before = unlike()
    run.train(say=lambda line: None)
    assert unlike() < 0.8 * before


def test_a_quick_analysis_may_learn_from_the_loss_instead(folder, tmp_path):
    """Of what the whole analysis does it knows nothing, and need not come near it."""
    run = quick_run(folder, tmp_path, steps=60, imitate=False, absent=0.0)
    torch.nn.init.normal_(run.model.quick.leave.weight, std=0.3)
    torch.nn.init.normal_(run.average.quick.leave.weight, std=0.3)
    before = run.validate()["loss"]
    run.train(say=lambda line: None)
    assert run.validate()["loss"] < 0.9 * before


def test_likeness_is_what_a_step_costs_by_the_loss():
    """Of a synthesis that keeps lengths: one latent, one unit off."""
    wanted = torch.zeros(1, 3, 2, 2)
    found = wanted.clone()
    found[0, 1, 0, 1] = 1
    pixels = (1 / GAIN) ** 2 / (3 * 4 * 256)  # mean squared error of three colours
    assert likeness(found, wanted).item() == pytest.approx(0.18 * pixels)


def test_the_linear_path_alone_is_near_orthonormal(folder, tmp_path):
    """With every band kept, pixels survive the untrained model at a fine step."""
    torch.manual_seed(0)
    shape = Shape(**{**TINY.__dict__, "base": 48, "enhancement": 720})
    model = PictureModel(shape).eval()
    start(model, data.load([folder / "train.tar"], tmp_path, smallest=64))
    x = torch.from_numpy(scene(3, 64)).permute(2, 0, 1)[None].float() - 128
    fine = torch.full((1, 1, 1, 1), -6.0)
    coded = model(x, fine, fine)
    assert (coded.full - x).abs().max() < 0.5  # rounding errors have a deviation of 0.05
    assert (coded.base - x).square().mean() > 10 * (coded.full - x).square().mean()


def test_a_lapped_transform_is_undone_and_leaves_the_outer_edges_alone():
    lap, x = Lap(), torch.rand(2, 3, 48, 32)
    with torch.no_grad():
        lapped = lap(x)
        np.testing.assert_allclose(lap(lapped, undo=True), x, atol=1e-5)
        assert torch.equal(lapped[:, :, :8, :8], x[:, :, :8, :8])
        assert not torch.isclose(lapped[:, :, 8:-8, 8:-8], x[:, :, 8:-8, 8:-8]).all(1).any()
        torch.testing.assert_close(lapped.square().sum(), x.square().sum())  # orthonormal at first
        lap.odd.add_(torch.rand(8, 8) / 10)
        np.testing.assert_allclose(lap(lap(x), undo=True), x, atol=1e-5)


def test_flat_areas_stay_flat_in_a_lapped_transform():
    x = torch.full((1, 3, 64, 64), 7.0)
    with torch.no_grad():
        torch.testing.assert_close(Lap()(x), x)


def test_exported_graphs_are_the_networks(folder, tmp_path):
    """Up to the rounding of their weights to float16."""
    torch.manual_seed(0)
    model = PictureModel(QUICK).eval()
    start(model, data.load([folder / "train.tar"], tmp_path, smallest=64))
    for net in (model.base_synthesis.leave, model.synthesis.leave, model.quick.leave):
        torch.nn.init.normal_(net.weight, std=0.5)
    for one in model.finish:
        torch.nn.init.normal_(one.mix, std=0.1)
    exported = export.export(model, tmp_path / "tiny-x", "tiny-x", (-1.0, 4.0), {})
    x = torch.from_numpy(scene(3, 128)).permute(2, 0, 1)[None].float() - 128
    plane = torch.full((1, 1, 8, 8), 0.5)
    with torch.no_grad():
        latents, quick = model.analyse(x), model.analyse(x, quick=True)
        both = torch.cat(latents[:2], 1)
        base = model.lap(model.base_synthesis(latents[0], plane), undo=True)
        full = model.lap(model.synthesis(both, plane.expand(1, 2, 8, 8)), undo=True)

    def ran(name, **inputs):
        session = onnxruntime.InferenceSession(exported.folder / f"{name}.onnx")
        return session.run(None, {key: value.numpy() for key, value in inputs.items()})

    for name, expected in (("analysis", latents), ("analysis.quick", quick)):
        for found, wanted in zip(ran(name, pixels=x), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=0.05)
    assert (quick[1] - latents[1]).abs().mean() > 0.1
    (found,) = ran("base", latents=latents[0], steps=plane)
    np.testing.assert_allclose(found, base, atol=0.5)
    (found,) = ran("enhancement", latents=both, steps=plane.expand(1, 2, 8, 8))
    np.testing.assert_allclose(found, full, atol=0.5)
    step = torch.full((8, 8), 1.5)
    with torch.no_grad():
        finished = model.finish(full, step[None, None])
    found = exported.heads[1].finish(full[0].numpy(), step.numpy(), (0, 0, 8, 8), [])
    np.testing.assert_allclose(found, finished[0], atol=1e-3)
    assert (finished - full).abs().mean() > 0.1


def test_tables_counted_anew_take_fewer_bits_for_what_they_were_counted_on(folder, tmp_path):
    torch.manual_seed(0)
    crops = data.load([folder / "train.tar"], tmp_path, smallest=64)
    model = PictureModel(TINY).eval()
    start(model, crops)
    trained = export.export(model, tmp_path / "tiny-x", "tiny-x", (-1.0, 4.0), {})
    counted = export.recount(trained, crops, 4)
    assert counted.digest != trained.digest
    assert counted.digest == (counted.folder / "digest.txt").read_text().strip()
    counted.check()
    y_base, _, z_base, _ = (v[0].detach().numpy() for v in model.analyse(crops.centred(0)))
    bits = [
        quantize.choose(one.priors[0], Analysed(y_base, z_base), 300, None)[0].bits
        for one in (trained, counted)
    ]
    assert bits[1] < bits[0]


def test_a_table_is_even_and_believes_in_what_it_was_trained_to():
    trained = export.to_counts(np.array([1, 2, 9, 2, 1, 0.1]))
    nothing = export.recounted(np.zeros(6), trained)
    np.testing.assert_allclose(nothing, trained, atol=8)
    counts = export.recounted(np.array([0, 0, 5000, 3000, 0, 0]), trained)
    assert counts.sum() == TOTAL
    assert counts[1] == counts[3] > trained[1]
    assert counts[0] == counts[4]
    assert 0 < counts[0] < trained[0]


def test_a_finish_leaves_constants_and_starts_silent():
    finish, flat = Finish(), torch.full((1, 3, 32, 48), 9.0)
    step, x = torch.ones(1, 1, 2, 3), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(finish(x, step), x)
        for one in finish:
            one.mix.normal_()
            one.straight.normal_()
        torch.testing.assert_close(finish(flat, step), flat, atol=1e-4, rtol=0)


def test_the_loss_follows_the_law_of_the_paper():
    """lambda = 0.18 / step^2: 0.18 at step 1, 0.0018 at step 10."""
    x = torch.zeros(2, 3, 8, 8)
    coded = Coded(base=x, full=x + 2, base_bits=torch.zeros(2), enhancement_bits=torch.zeros(2))
    log2_step = torch.tensor([1.0, 10.0]).log2()[:, None, None, None]
    terms = rate_distortion(x, coded, log2_step, base_weight=0.1)
    assert torch.allclose(terms.loss, torch.tensor([0.18 * 4, 0.0018 * 4]))


def test_absent_enhancement_counts_as_a_base(folder, tmp_path):
    x = torch.ones(1, 3, 64, 64)
    coded = Coded(base=x + 1, full=x + 1, base_bits=torch.ones(1), enhancement_bits=torch.ones(1))
    at, absent = torch.zeros(1, 1, 1, 1), torch.tensor([True])
    with_it = rate_distortion(x, coded, at, 0.1).loss
    without = rate_distortion(x, coded, at, 0.1, absent).loss
    assert without < with_it


def test_balance_makes_coarse_steps_count_more_and_a_crop_as_much_as_before(folder, tmp_path):
    recipe = loop.read_recipe(folder / "tiny.toml")
    even = loop.Run(recipe, folder, tmp_path / "even", tmp_path / "cache", "cpu")
    log2_step = torch.linspace(*recipe.log2_step, 2001)
    assert (even._balance(log2_step) == 1).all()
    run = loop.Run(replace(recipe, balance=0.85), folder, tmp_path / "run", tmp_path, "cpu")
    counts = run._balance(log2_step)
    assert counts.mean().item() == pytest.approx(1, rel=1e-3)
    assert (counts[-1] / counts[0]).log2().item() == pytest.approx(0.85 * 4.95)
    result = run.validate()
    losses = [point["loss"] for point in result["points"]]
    expected = np.average(losses, weights=np.array(recipe.validate_at) ** 0.85)
    assert result["loss"] == pytest.approx(expected, abs=2e-4)


def test_the_rate_is_held_and_then_falls():
    assert [loop.share_of_peak(progress, 0.5) for progress in (0, 0.5)] == [1, 1]
    assert loop.share_of_peak(0.75, 0.5) == pytest.approx(0.505)
    assert loop.share_of_peak(0.5, 0) == pytest.approx(0.505)
    assert loop.share_of_peak(1, 0.5) == pytest.approx(0.01)


def test_a_recipe_may_extend_another(tmp_path):
    whole, quick = loop.read_recipe("photo"), loop.read_recipe("photo-quick")
    network = replace(whole.network, quick8=128, quick16=192, quick_bricks=2)
    assert (quick.network, quick.sources, quick.only_quick) == (network, whole.sources, True)
    assert quick.rate != whole.rate
    (tmp_path / "basis.toml").write_text('name = "basis"\nbatch = 3\n')
    more = tmp_path / "more.toml"
    more.write_text('name = "more"\nextends = "basis.toml"\n')  # beside it
    basis = loop.read_recipe(tmp_path / "basis.toml")
    assert loop.read_recipe(more) == replace(basis, name="more")
    most = tmp_path / "most.toml"
    most.write_text('name = "most"\nextends = "more.toml"\nbatch = 5\n')
    assert loop.read_recipe(most) == replace(basis, name="most", batch=5)
    more.write_text('name = "more"\nextends = "most.toml"\n')
    with pytest.raises(BadRequest, match=r"most\.toml extends itself"):
        loop.read_recipe(most)


def test_unknown_recipe_keys_and_missing_data_are_named(folder, tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('name = "wrong"\nspeed = 3\n')
    with pytest.raises(BadRequest, match="unknown keys speed"):
        loop.read_recipe(wrong)
    wrong.write_text('name = "wrong"\noptimiser = "luck"\n')
    with pytest.raises(BadRequest, match="no optimiser luck; known: adam, soap"):
        loop.read_recipe(wrong)
    wrong.write_text('name = "wrong"\nonly_quick = true\n')
    with pytest.raises(BadRequest, match="there is no quick analysis"):
        loop.read_recipe(wrong)
    wrong.write_text('name = "wrong"\nhold = 1.0\n')
    with pytest.raises(BadRequest, match=r"hold is 1\.0"):
        loop.read_recipe(wrong)
    wrong.write_text('name = "wrong"\n[network]\nwider = 3\n')
    with pytest.raises(BadRequest, match=r"wrong\.toml: network: .*wider"):
        loop.read_recipe(wrong)
    wrong.write_text("name = wrong")
    with pytest.raises(BadRequest, match=r"wrong\.toml: Invalid value"):
        loop.read_recipe(wrong)
    wrong.write_text('name = "wrong"\nextends = "nonsense"\n')
    with pytest.raises(BadRequest, match="no recipe nonsense"):
        loop.read_recipe(wrong)
    with pytest.raises(BadRequest, match="no recipe nonsense"):
        loop.read_recipe("nonsense")
    wrong.write_text("batch = 2\n")
    with pytest.raises(BadRequest, match="name is missing"):
        loop.read_recipe(wrong)
    with pytest.raises(BadRequest, match=r"not found: .*nowhere\.tar"):
        data.load([tmp_path / "nowhere.tar"], tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("steps = -1", "steps cannot be -1"),
        ("batch = 0", "batch cannot be 0"),
        ("batch = 2\nobjectives = 4", "batch cannot be 2"),
        ("crop = 96", "crop of 96 is no multiple of 64"),
        ('offsets = "no"', "offsets is 'no', no bool"),
        ("absent = 2.0", r"absent cannot be 2\.0"),
        ("rate = nan", "rate is nan"),
        ("clip = 0", "clip cannot be 0"),
        ("warm_up = -5", "warm_up cannot be -5"),
        ("log2_step = [4.0, -1.0]", "log2_step cannot be"),
        ("log2_step = [1.0]", "log2_step is"),
        ('sources = "train.tar"', "sources is 'train.tar'"),
        ("validate_at = []", "validate_at cannot be"),
        ("validate_crops = 0", "validate_crops cannot be 0"),
        ("network = 3", "network is 3, no table"),
        ("[network]\nbase = 60", "base cannot be 60"),
        ("[network]\nenhancement = 800", "enhancement cannot be 800"),
        ("[network]\ncontext_steps = 3", "context_steps cannot be 3"),
        ("[network]\nanalysis8 = -1", "network cannot be"),
        ("[network]\nwide8 = 0", "wide8 cannot be 0"),
        ("[network]\nhyper = [0, 3]", "hyper cannot be"),
        ("[network]\nquick8 = 6\nquick16 = 0", "quick16 cannot be 0"),
        ("base_jitter = inf", "base_jitter cannot be inf"),
        ("[network]\nhyper = [2]", "hyper is"),
    ],
)
def test_values_that_make_no_sense_are_named(tmp_path, line, words):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(f'name = "wrong"\n{line}\n')
    with pytest.raises(BadRequest, match=rf"wrong\.toml: .*{words}"):
        loop.read_recipe(wrong)


@pytest.mark.parametrize(
    "options",
    [("--max-steps", 0), ("--max-minutes", 0), ("--batch", 0), ("--device", "abacus")],
)
def test_options_of_training_that_make_no_sense(folder, tmp_path, options):
    fails("train", folder / "tiny.toml", "--data", folder, "-o", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def tarred(path, files: dict[str, bytes]) -> bytes:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def test_a_tar_that_is_not_whole_is_refused(tmp_path):
    path = tmp_path / "train.tar"
    first = png(scene(0))
    whole = tarred(path, {"0.png": first, "1.png": png(scene(1))})
    member = 512 + -(-len(first) // 512) * 512
    for cut in (0, 100, 700, member, member + 100):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadRequest, match=r"train\.tar: not a whole tar file"):
            data.load([path], tmp_path / f"cache{cut}")
    packed = tmp_path / "train.tar.gz"
    packed.write_bytes(gzip.compress(whole)[:-3000])
    with pytest.raises(BadRequest, match=r"train\.tar\.gz: not a whole tar file"):
        data.load([packed], tmp_path / "cache")


def test_pictures_that_are_none_are_named(tmp_path):
    deep = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    tiff = io.BytesIO()
    Image.fromarray(deep).save(tiff, "TIFF")
    for name, content in (("bad.png", b"no picture"), ("float.tif", tiff.getvalue())):
        tarred(tmp_path / "train.tar", {name: content})
        with pytest.raises(BadRequest, match=rf"train\.tar: {name}: "):
            data.load([tmp_path / "train.tar"], tmp_path / "cache")
    with pytest.raises(BadRequest, match="the recipe names none"):
        data.load([], tmp_path / "cache")


def test_gray_of_16_bits_is_not_cut(tmp_path):
    ramp = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (64, 1))
    tarred(tmp_path / "train.tar", {"ramp.png": png(ramp)})
    crops = data.load([tmp_path / "train.tar"], tmp_path / "cache")
    for channel in range(3):
        assert np.array_equal(crops[0][..., channel], ramp >> 8)


def test_a_tar_of_the_same_size_that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "train.tar"
    sizes = set()
    for n in (1, 11):
        tarred(path, {"0.png": png(scene(n))})
        os.utime(path, ns=(n, n))
        sizes.add(path.stat().st_size)
        assert np.array_equal(data.load([path], tmp_path / "cache")[0], scene(n))
    assert len(sizes) == 1


def test_a_cache_that_is_in_use_is_never_written_over(folder, tmp_path):
    files = tmp_path / "x.pixels.npy", tmp_path / "x.index.npy"
    data._decode([folder / "train.tar"], *files, 64)
    mapped, inode = np.load(files[0], mmap_mode="r"), files[0].stat().st_ino
    before = np.array(mapped)
    data._decode([folder / "val"], *files, 64)
    assert files[0].stat().st_ino != inode
    assert np.array_equal(mapped, before)


def test_crops_are_cached_and_cut_inside_the_pictures(folder, tmp_path):
    crops = data.load([folder / "train.tar"], tmp_path, smallest=64)
    again = data.load([folder / "train.tar"], tmp_path, smallest=64)
    assert len(crops) == len(again) == 4
    assert np.array_equal(crops[2], scene(2))
    batch = next(data.Batches(crops, 3, 64, "cpu", seed=1))
    assert batch.shape == (3, 3, 64, 64)
    assert 0 <= batch.min() and batch.max() <= 255


def test_a_folder_that_has_changed_is_read_again(tmp_path):
    for name, first in (("one", 0), ("two", 7)):
        for n in range(2):
            (tmp_path / name / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(first + n)).save(tmp_path / name / "train" / f"{n}.png")
    cache = tmp_path / "cache"
    one, two = (data.load([tmp_path / name / "train"], cache) for name in ("one", "two"))
    assert np.array_equal(one[0], scene(0)) and np.array_equal(two[0], scene(7))
    Image.fromarray(scene(3)).save(tmp_path / "one" / "train" / "3.png")
    assert len(data.load([tmp_path / "one" / "train"], cache)) == 3


def test_offsets_of_tables_are_the_offsets_of_their_ratios():
    torch.manual_seed(0)
    quantiser = Quantiser()
    for layer in quantiser.offset_net[::2]:
        torch.nn.init.normal_(layer.weight, std=0.2)
    torch.nn.init.constant_(quantiser.offset_net[-1].bias, 0.25)
    step = torch.tensor([0.7, 9.0]).reshape(2, 1, 1, 1)
    near = torch.linspace(-5, 5, 162).reshape(2, 3, 3, 9)
    table = (near.clamp(-4, 4) * 8).round() / 8
    found = quantiser.offset_of_tables(near, step)
    torch.testing.assert_close(found, quantiser.offset(table, step))
    assert found.std() > 0.01
