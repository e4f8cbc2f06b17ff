"""Training on what an encoder chooses: the syntheses alone, on latents as files have them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import picture
from PIL import Image

torch = pytest.importorskip("torch", reason="training needs the [train] extra")
pytest.importorskip("onnx", reason="export needs the [train] extra")

import sccodec
from sccodec.entropy.tables import step_size
from sccodec.errors import BadRequest
from sccodec.profiles.registry import Model
from sccodec.train import chosen, data, export, loop
from sccodec.train.model import PictureModel, load, start
from sccodec.train.networks import Shape

SIZE, STEP = 64, 300
NETWORK = Shape(
    base=6, enhancement=10, hyper=(2, 3), wide8=6, wide16=8, analysis8=1, analysis16=1,
    synthesis8=1, synthesis16=1, base_wide=6, base_bricks=1, prior_wide=(6, 8), context_steps=2,
)  # fmt: skip
RECIPE = loop.Recipe(
    "tiny", NETWORK, sources=("pictures",), validation=("held-out",), steps=8, batch=2, crop=SIZE,
    rate=3e-3, warm_up=1, chosen=4, efforts=(5, 1), validate_at=(2.0, 8.0), validate_crops=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder."""
    root = tmp_path_factory.mktemp("data")
    for name, seeds in (("pictures", range(3)), ("held-out", [9])):
        (root / name).mkdir()
        for seed in seeds:
            Image.fromarray(picture(96, 80, seed)).save(root / name / f"{seed}.png")
    return root


@pytest.fixture(scope="module")
def model(root, tmp_path_factory):
    """An exported model, untrained, with its weights beside it."""
    torch.manual_seed(1)
    network = PictureModel(NETWORK)
    start(network, data.load([root / "pictures"], root / "cache"))
    folder = tmp_path_factory.mktemp("models") / "fresh-1"
    return export.export(network, folder, "fresh-1", (-1.0, 4.0), {})


def run(root, model, out, **changes):
    recipe = replace(RECIPE, **changes)
    init = model.folder / "weights.npz"
    return loop.Run(recipe, root, out, root / "cache", "cpu", init)


@pytest.mark.parametrize("effort", [1, 2])
def test_what_is_coded_synthesises_to_what_a_file_decodes_to(model, tmp_path, effort, monkeypatch):
    monkeypatch.setenv("SCCODEC_MODELS", str(model.folder.parent))
    pixels = picture(SIZE, SIZE, 4)
    paths = chosen.coded(model, [chosen.Plan(pixels, STEP, effort)], tmp_path)
    found = chosen.Batch.of(paths, "cpu")
    network, _ = load(model.folder / "weights.npz")
    with torch.no_grad():
        pictures = network.eval().synthesise(
            found.base, found.enhancement, found.base_log2, found.log2_step
        )
    file = sccodec.encode(pixels, step=STEP, effort=effort, profile="fresh-1")
    for layer, made in zip(("base", "all"), pictures, strict=True):
        made = (made[0].permute(1, 2, 0).numpy() + 128).clip(0, 255)
        decoded = sccodec.decode(file, layers=layer).astype(np.float32)
        assert np.abs(made - decoded).max() < 1.5, layer
    assert np.array_equal(found.x[0].permute(1, 2, 0).numpy() + 128, pixels)
    assert found.log2_step.item() == pytest.approx(np.log2(step_size(STEP)))
    assert found.base_log2.item() == pytest.approx(
        (STEP + model.layers[0].coarser - 256) / 32, abs=1e-3
    )
    entries = sccodec.open(file).header.layers
    for bits, entry in zip((found.base_bits, found.bits), entries, strict=True):
        assert bits.item() / 8 == pytest.approx(entry.bytes, abs=12)


def test_only_the_syntheses_are_trained_and_what_files_decode_to_comes_nearer(
    root, model, tmp_path
):
    trained = run(root, model, tmp_path / "run")
    before = trained.validate()
    trained.train(say=lambda line: None)
    after = trained.validate()
    assert after["loss"] < before["loss"]
    for old, new in zip(before["points"], after["points"], strict=True):
        assert new["bpp"] == old["bpp"] > 0  # symbols stay as they were chosen
    first, _ = load(model.folder / "weights.npz")
    moved = {
        name.partition(".")[0]
        for name, value in first.state_dict().items()
        if not torch.equal(value, trained.average.state_dict()[name])
    }
    assert moved == {"synthesis", "base_synthesis", "finish"}


def test_crops_are_coded_once(root, model, tmp_path, monkeypatch):
    first = run(root, model, tmp_path / "run")
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(written) == 4 + 2 and not list(tmp_path.rglob("*.part"))
    next((tmp_path / "run" / "chosen").rglob("00002.npz")).unlink()
    again = run(root, model, tmp_path / "run")
    assert again.chosen == first.chosen and all(path.exists() for path in written)
    same = [path for path, when in written.items() if path.stat().st_mtime_ns == when]
    assert len(same) == 5


def test_what_was_coded_for_another_plan_is_coded_anew(model, tmp_path):
    plan = chosen.Plan(picture(SIZE, SIZE, 4), STEP, 1)
    (path,) = chosen.coded(model, [plan], tmp_path)
    before = path.read_bytes()
    for changed in (plan._replace(step=STEP + 64), plan._replace(pixels=picture(SIZE, SIZE, 5))):
        assert chosen.coded(model, [changed], tmp_path) == [path]
        assert path.read_bytes() != before
    chosen.coded(model, [plan], tmp_path)
    assert chosen.Batch.of([path], "cpu").log2_step.item() == pytest.approx(
        (STEP - 256) / 32, abs=1e-3
    )


def test_what_another_model_coded_is_not_taken(model, tmp_path):
    plans = [chosen.Plan(picture(SIZE, SIZE, 4), STEP, 1)]
    folder = tmp_path / "other-1"
    shutil.copytree(model.folder, folder)
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {"id": "other-1"}))
    first, second = (chosen.coded(m, plans, tmp_path / "coded") for m in (model, Model(folder)))
    assert first != second and first[0].exists() and second[0].exists()


def test_plans_are_the_same_each_time_and_take_efforts_in_turn(root):
    crops = data.load([root / "pictures"], root / "cache")
    plans = [list(chosen.drawn(crops, 6, SIZE, (-1.0, 4.0), (5, 5, 1))) for _ in range(2)]
    assert [plan.effort for plan in plans[0]] == [5, 5, 1, 5, 5, 1]
    assert all(
        224 <= plan.step <= 384 and plan.pixels.shape == (SIZE, SIZE, 3) for plan in plans[0]
    )
    for one, other in zip(*plans, strict=True):
        assert one.step == other.step and np.array_equal(one.pixels, other.pixels)
    assert len({plan.step for plan in plans[0]}) > 1


def test_every_coded_crop_is_met_before_one_is_met_again(root, model, tmp_path):
    trained = run(root, model, tmp_path / "run")
    batches = chosen.Batches(trained.chosen, 2, "cpu", seed=1)
    steps = [v for _ in range(2) for v in next(batches).log2_step.flatten().tolist()]
    every = chosen.Batch.of(trained.chosen, "cpu").log2_step.flatten().tolist()
    assert sorted(steps) == sorted(every)


def test_objectives_are_parts_of_a_batch_of_coded_crops(root, model, tmp_path):
    trained = run(root, model, tmp_path / "run", objectives=2, steps=2)
    before = trained.validate()["loss"]
    trained.train(say=lambda line: None)
    assert trained.step == 2 and trained.validate()["loss"] != before


def test_without_an_encoder_there_is_nothing_to_train_on(root, tmp_path):
    for init in (None, tmp_path / "best.pt"):
        with pytest.raises(BadRequest, match="what an encoder chooses") as caught:
            loop.Run(RECIPE, root, tmp_path / "run", root / "cache", "cpu", init)
        assert "weights.npz" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("only_quick = true", "only_quick and chosen exclude each other"),
        ("efforts = [5, 0]", r"efforts are \[5, 0\], not each from 1 to 9"),
        ("efforts = []", r"efforts are \[\], not each from 1 to 9"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(tmp_path, line, error):
    (tmp_path / "odd.toml").write_text(f'name = "odd"\nextends = "photo-synthesis"\n{line}\n')
    with pytest.raises(BadRequest, match=error):
        loop.read_recipe(tmp_path / "odd.toml")


def test_crops_larger_than_any_picture_are_refused(root, model, tmp_path):
    with pytest.raises(BadRequest, match="no training picture has 128 pixels a side"):
        run(root, model, tmp_path / "run", crop=128)


def test_crops_that_the_encoder_would_fill_up_are_refused(tmp_path):
    (tmp_path / "odd.toml").write_text('name = "odd"\nextends = "photo-synthesis"\ncrop = 200\n')
    with pytest.raises(BadRequest, match="200 is no multiple of 64"):
        loop.read_recipe(tmp_path / "odd.toml")


def test_the_recipe_for_what_encoders_choose_is_whole():
    recipe, quick = loop.read_recipe("photo-synthesis"), loop.read_recipe("photo-quick")
    assert recipe.chosen and not recipe.only_quick and recipe.network == quick.network
    assert recipe.balance == loop.read_recipe("photo").balance
