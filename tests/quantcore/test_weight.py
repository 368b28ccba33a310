import cases
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantcore.errors import SchemeError
from quantcore.weight import PRESETS, AdditiveWeight, Scheme, preset

schemes = st.builds(Scheme, st.integers(1, 4), st.integers(1, 16), st.integers(1, 32))


@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
def test_dense_equals_loops(rng, out, groups, scheme):
    weight = cases.make(rng, out, groups, scheme).weight
    want = oracles.decode(weight.codes, weight.codebooks, weight.scales)
    torch.testing.assert_close(weight.dense().double(), want, rtol=1e-5, atol=1e-6)
    assert weight.scheme == scheme


def test_some_rows_are_the_rows_of_the_whole(rng):
    weight = cases.make(rng, out=7).weight
    assert torch.equal(weight[2:5].dense(), weight.dense()[2:5])


def test_usage_counts_every_code(rng):
    weight = cases.make(rng, 7, 3, Scheme(3, 2, 4)).weight
    want = [[(weight.codes[..., m] == k).sum().item() for k in range(4)] for m in range(3)]
    assert weight.usage().tolist() == want


def test_bits_by_hand():
    # 192 x 576 at 2x8 g8: 2 bits of codes, 2 * 256 * 8 * 16 bits of books, 16 bits a row
    want = 2 + 2 * 256 * 8 * 16 / (192 * 576) + 16 / 576
    assert Scheme(2, 8, 8).bits_per_weight(192, 576) == pytest.approx(want)


def test_rho_is_the_papers():
    # arXiv:2604.08118, definition 1.1: Llama 3.2 3B, 3072 x 3072, 18 at 2 bits and .07 at 3
    assert Scheme(2, 8, 8).rho(3072, 3072) == pytest.approx(18.0)
    assert Scheme(3, 8, 8).rho(3072, 3072) == pytest.approx(0.0703, abs=1e-4)


@given(scheme=schemes, out=st.integers(1, 500), groups=st.integers(1, 60))
def test_bits_and_rho_from_their_definitions(scheme, out, groups):
    columns = groups * scheme.group
    stored = out * groups * scheme.codebooks * scheme.bits + 16 * out
    stored += 16 * scheme.codebooks * scheme.size * scheme.group
    assert scheme.bits_per_weight(out, columns) == pytest.approx(stored / (out * columns))
    sums = scheme.size**scheme.codebooks
    assert scheme.rho(out, columns) * sums == pytest.approx(out * groups)


def test_presets_mean_what_they_say():
    for bits, scheme in PRESETS.items():
        assert scheme.code_bits == bits
    assert preset(2.0) == Scheme(2, 8, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 8, 8), "codebooks must be 1 to 4, got 0"),
        ((5, 8, 8), "codebooks must be 1 to 4, got 5"),
        ((2, 17, 8), "bits must be 1 to 16, got 17"),
        ((2, 8, 0), "group must be at least 1, got 0"),
    ],
)
def test_impossible_schemes_are_refused(values, message):
    with pytest.raises(SchemeError, match=message):
        Scheme(*values)


def test_a_scheme_that_does_not_divide_names_those_that_do():
    with pytest.raises(SchemeError, match=r"576 inputs do not divide.* of 7; try 2x8 g6 or 2x8 g8"):
        Scheme(2, 8, 7).check(576, 576)


def test_more_words_than_groups_are_refused():
    with pytest.raises(SchemeError, match=r"256 words is more than the layer's 64 groups.*2x6 g8"):
        Scheme(2, 8, 8).check(8, 64)


def test_unknown_preset_lists_the_known():
    with pytest.raises(SchemeError, match=r"no preset for 2.2 .* 1, 1.5, 2, 2.5, 3, 4"):
        preset(2.2)


def test_codes_must_fit_the_codebooks(rng):
    weight = cases.make(rng).weight
    with pytest.raises(SchemeError, match="codes name 1 codebooks, but 2 are given"):
        AdditiveWeight(weight.codes[..., :1], weight.codebooks, weight.scales)


@pytest.mark.parametrize("words", ["2x8g" + "9" * 5000, "9" * 5000, "2x8g٢"])
def test_words_that_are_no_scheme_are_not_repeated_whole(words):
    with pytest.raises(SchemeError, match="a scheme is written like 2x8g8, got") as refused:
        Scheme.parse(words)
    assert len(str(refused.value)) < 300


def test_divisors_of_a_layer_of_any_width_are_not_looked_for_far_away():
    with pytest.raises(SchemeError, match="try 2x8 g5 or 2x8 g8"):
        Scheme(2, 8, 7).check(1, 10**15)
    with pytest.raises(SchemeError, match="try 2x8 g1"):
        Scheme(2, 8, 10**6).check(1, 2**61 - 1)  # a prime
