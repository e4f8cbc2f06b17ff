"""The prior's generator: both directions agree, its twin in training agrees, costs are true."""

import numpy as np
import pytest

from sccodec.entropy.coder import LARGEST
from sccodec.entropy.fixed import ACTIVATION_BITS, merge, split
from sccodec.errors import Damaged, WrongModel
from sccodec.latents import quantize
from sccodec.latents.prior import LayerPrior, Turn
from sccodec.latents.quantize import Analysed

STEPS = (208, 256, 300, 400)


def latents(model, layer, height=8, width=12, seed=0):
    """Unquantised values of about the size that the layer's prior expects."""
    random = np.random.default_rng(seed)
    plan, prior = model.layers[layer], model.priors[layer]
    size = prior.mean_scale[:, None, None] / 4096 * 2**ACTIVATION_BITS
    y = random.laplace(0, 1, (plan.latents, height, width)) * size
    z = random.normal(0, 2, (plan.hyper, height // 4, width // 4))
    return Analysed(y.astype(np.float32), z.astype(np.float32))


def select(turn: Turn) -> np.ndarray:
    """(M, height, width) bool: the latents that a round codes."""
    latents, height, width = turn.shape
    found = np.zeros((latents, 4, turn.cells), bool)
    found[turn.channels, turn.places] = True
    return merge(found, height, width)


def both_layers(model, step, height=8, width=12):
    """(layer, tile, what it sees below) of both layers, the first one coded."""
    base = latents(model, 0, height, width)
    _, coded = quantize.choose(model.priors[0], base, step, None)
    return [(0, base, None), (1, latents(model, 1, height, width, seed=1), coded.seen)]


@pytest.mark.parametrize("step", STEPS)
def test_decoding_gives_what_encoding_left(tiny_model, step):
    for layer, tile, lower in both_layers(tiny_model, step):
        prior, models = tiny_model.priors[layer], tiny_model.models
        chooser, coded = quantize.choose(prior, tile, step, lower)
        payload = quantize.packed(models, chooser)
        size = tile.y.shape[1:]
        check, again = quantize.decode(prior, models, payload.data, size, step, lower)
        assert check == payload.checksum
        np.testing.assert_array_equal(again.latent, coded.latent)
        np.testing.assert_array_equal(again.seen, coded.seen)


@pytest.mark.parametrize("step", STEPS)
def test_counted_bits_are_the_payload(tiny_model, step):
    for layer, tile, lower in both_layers(tiny_model, step, 32, 32):
        prior = tiny_model.priors[layer]
        chooser, counted = quantize.choose(prior, tile, step, lower)
        chooser, coded = quantize.choose(prior, tile, step, lower)
        payload = quantize.packed(tiny_model.models, chooser)
        assert len(payload.data) == pytest.approx(chooser.bits / 8, rel=0.02, abs=8)
        np.testing.assert_array_equal(counted.seen, coded.seen)


def test_reconstructions_lie_within_half_a_step(tiny_model):
    for layer, tile, lower in both_layers(tiny_model, 256):
        _, coded = quantize.choose(tiny_model.priors[layer], tile, 256, lower)
        assert np.abs(coded.seen / 4096 - tile.y).max() <= 0.5 + 1e-3


def asks(prior, step, lower, answer, size=(8, 12)):
    """Every `Ask` of the generator with the symbols it was given, and what it returns."""
    rounds, met = prior.rounds(*size, step, lower), []
    ask = next(rounds)
    while True:
        symbols = answer(ask)
        met.append((ask, symbols))
        try:
            ask = rounds.send(symbols)
        except StopIteration as stop:
            return met, stop.value


def test_rounds_cover_every_latent_once(tiny_model):
    prior = tiny_model.priors[0]
    met, _ = asks(prior, 256, None, lambda ask: np.zeros(len(ask.index), np.int32))
    assert [ask.what for ask, _ in met] == ["hyper"] + 4 * ["latent"]
    times = np.sum([select(ask.turn) for ask, _ in met[1:]], axis=0)
    assert times.shape == (8, 8, 12) and (times == 1).all()


@pytest.mark.parametrize("pattern", [[[[0, 1], [2, 3]], [[3, 2], [1, 0]]], [[[0, 2], [2, 0]]]])
def test_symbols_of_a_round_are_in_c_order(pattern):
    latents, height, width = 6, 8, 12
    group = np.arange(latents) % len(pattern)
    turns = np.array(pattern)[group]
    values = np.random.default_rng(0).normal(size=(latents, height, width))
    for k in range(turns.max() + 1):
        turn = Turn(turns.reshape(latents, 4), k, height, width)
        wanted = np.tile(turns == k, (1, height // 2, width // 2))
        np.testing.assert_array_equal(select(turn), wanted)
        rows = split(values)[turn.channels, turn.places]
        np.testing.assert_array_equal(turn.symbols(rows), values[wanted])
        np.testing.assert_array_equal(turn.rows(values[wanted]), rows)


@pytest.mark.usefixtures("all_cores")
@pytest.mark.parametrize("jobs", [2, 3, 9])
def test_several_threads_find_the_same(tiny_model, jobs):
    for layer, tile, lower in both_layers(tiny_model, 300):
        prior = tiny_model.priors[layer]
        alone, met = quantize.choose(prior, tile, 300, lower)
        shared, again = quantize.choose(prior, tile, 300, lower, jobs=jobs)
        for one, other in zip(alone.rounds, shared.rounds, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(met.latent, again.latent)
        np.testing.assert_array_equal(met.seen, again.seen)


def test_offsets_move_symbols_and_leave_zeros_alone(tiny_model):
    prior = tiny_model.priors[0]
    assert 0 < np.abs(prior.offsets).max() <= 0.5
    random = np.random.default_rng(0)
    met, coded = asks(
        prior, 256, None, lambda ask: random.integers(-2, 3, len(ask.index)).astype(np.int32)
    )
    for ask, symbols in met[1:]:
        pulled = coded.seen[select(ask.turn)] / 4096 - coded.latent[select(ask.turn)]
        assert (pulled[symbols == 0] == 0).all()
        expected = np.sign(symbols) * prior.offsets[ask.index, 8] * ask.step
        np.testing.assert_allclose(pulled, expected, atol=1e-5)


def test_every_number_that_chooses_a_table_is_an_integer(tiny_model):
    for layer, tile, lower in both_layers(tiny_model, 300):
        prior = tiny_model.priors[layer]
        met, coded = asks(prior, 300, lower, lambda ask, t=tile: quantize.nearest(ask, t))
        assert (coded.seen == np.rint(coded.seen)).all()
        for ask, _ in met:
            assert (ask.mean * 4096 == np.rint(ask.mean * 4096)).all()


def test_the_largest_symbols_stay_exact(tiny_model):
    prior = tiny_model.priors[0]
    met, coded = asks(
        prior, 511, None, lambda ask: np.resize([LARGEST, -LARGEST, -LARGEST], len(ask.index))
    )
    for ask, symbols in met[1:]:
        step = int(4096 * ask.step)
        exact = [int(q) * step + int(4096 * m) for q, m in zip(symbols, ask.mean, strict=True)]
        assert coded.seen[select(ask.turn)].astype(object).tolist() == exact


def test_a_payload_of_another_layer_is_noticed(tiny_model):
    (_, base, _), (_, rest, lower) = both_layers(tiny_model, 256)
    models = tiny_model.models
    chooser, _ = quantize.choose(tiny_model.priors[0], base, 256, None)
    payload = quantize.packed(models, chooser)
    try:
        check, _ = quantize.decode(
            tiny_model.priors[1], models, payload.data, rest.y.shape[1:], 256, lower
        )
    except Damaged:
        return
    assert check != payload.checksum


def broken(arrays, change):
    name, value = change
    changed = {**arrays, name: value(arrays[name])}
    return {k: v for k, v in changed.items() if v is not None}


@pytest.mark.parametrize(
    "change",
    [
        ("join.weight", lambda a: None),
        ("join.weight", lambda a: a.astype(np.float32)),
        ("join.weight", lambda a: a[0]),
        ("shift", lambda a: a - 9),
        ("hyper_steps", lambda a: a[:-1]),
        ("hyper_steps", lambda a: a + 512),
        ("offsets", lambda a: a[:-1]),
    ],
)
def test_a_prior_whose_arrays_do_not_fit_is_refused(tiny_model, change):
    arrays = {
        name.removeprefix("base."): array
        for name, array in tiny_model._arrays.items()
        if name.startswith("base.")
    }
    LayerPrior(arrays, tiny_model.tables, 0)
    with pytest.raises(WrongModel):
        LayerPrior(broken(arrays, change), tiny_model.tables, 0)


def twin(torch, tiny_model, layer):
    """The float prior of training with the exported integers as its weights."""
    from sccodec.train.prior import Prior

    exact, plan = tiny_model.priors[layer], tiny_model.layers[layer]
    lower = sum(tiny_model.layers[i].latents for i in plan.needs)
    wide = exact.join.weight.shape[0]
    prior = Prior(plan.latents, plan.hyper, wide, lower, len(exact.contexts)).double().eval()
    state = prior.state_dict()
    for name, value in state.items():
        stored = torch.from_numpy(tiny_model._arrays[f"{plan.name}.{name}"].astype(np.float64))
        bits = 8 if name.startswith("hyper_") else 12
        scale = 1 if name in ("pattern", "shift", "lower_shift") else 2.0**bits
        value.copy_((stored / scale).reshape(value.shape))
    return prior


@pytest.mark.parametrize("layer", [0, 1])
def test_the_float_twin_of_training_agrees_within_the_rounding(tiny_model, layer):
    torch = pytest.importorskip("torch")
    _, tile, lower = both_layers(tiny_model, 256)[layer]
    met, coded = asks(tiny_model.priors[layer], 256, lower, lambda ask: quantize.nearest(ask, tile))
    hyper, mean = met[0], np.zeros_like(coded.seen)
    index = np.zeros(mean.shape, int)
    for ask, _ in met[1:]:
        mean[select(ask.turn)], index[select(ask.turn)] = ask.mean, ask.index
    z_hat = (hyper[1] * hyper[0].step + hyper[0].mean).reshape(tile.z.shape)
    below = None if lower is None else torch.from_numpy(lower / 4096)[None]
    with torch.no_grad():
        # Fed with what the exact side saw, so that one rounding of a symbol cannot spread.
        float_mean, log2_scale, _ = twin(torch, tiny_model, layer)(
            torch.from_numpy(coded.seen / 4096)[None],
            torch.from_numpy(z_hat)[None],
            below,
            torch.full((1, 1, 1, 1), 2.0**-20, dtype=torch.float64),
        )
    unit = tiny_model.priors[layer].mean_scale[:, None, None] / 4096 * 2**ACTIVATION_BITS
    assert np.abs((float_mean[0].numpy() - mean) / unit).max() < 0.1
    tables = tiny_model.tables
    wanted = (log2_scale[0].numpy() - tables.smallest) * tables.per_octave
    wanted = np.clip(wanted, 0, len(tables) - 1)
    assert np.abs(wanted - index).max() < 1.5


def test_an_error_worth_everything_leaves_the_nearest_symbols(tiny_model):
    _, tile, lower = both_layers(tiny_model, 256)[1]
    prior = tiny_model.priors[1]
    near, _ = quantize.choose(prior, tile, 256, lower)
    exact, _ = quantize.choose(prior, tile, 256, lower, (1e9,) * 4)
    assert exact.bits == pytest.approx(near.bits, rel=0.01)
    cheap, _ = quantize.choose(prior, tile, 256, lower, (0.0,) * 4)
    assert cheap.bits < 0.95 * near.bits


def test_no_symbol_is_dearer_than_the_nearest(tiny_model):
    """One symbol at a time: bits + worth * squared error, by definition."""
    _, tile, lower = both_layers(tiny_model, 300)[1]
    tables, worth = tiny_model.tables, 1.0

    def check(ask):
        symbols = quantize.nearest(ask, tile)
        if ask.what == "latent":
            value = (tile.y[select(ask.turn)] - ask.mean) / ask.step
            costs = []
            for choice in (symbols, quantize.cheapest(ask, tile, tables, worth)):
                error = choice - np.sign(choice) * ask.offsets[ask.index] - value
                costs.append(tables.bits(choice, ask.index) + worth * error**2)
                assert (np.abs(choice) <= np.abs(symbols)).all()
            assert (costs[1] <= costs[0]).all() and (costs[1] < costs[0]).any()
        return symbols

    asks(tiny_model.priors[1], 300, lower, check)
