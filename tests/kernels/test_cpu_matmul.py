from concurrent.futures import ThreadPoolExecutor

import oracles
import pytest
import torch

from quantcore.kernels import cpu_decode, cpu_matmul, naive

CASES = [
    # books, bits, group, out, groups, type of the codes
    (2, 8, 8, 13, 7, torch.int8),
    (1, 8, 8, 9, 17, torch.int8),
    (4, 8, 8, 17, 3, torch.int8),
    (3, 5, 5, 6, 4, torch.int8),
    (2, 1, 4, 1, 1, torch.int8),
    (1, 16, 8, 10, 9, torch.int16),
    (2, 12, 16, 8, 6, torch.int16),
    (2, 10, 3, 5, 2, torch.int32),
    (4, 3, 1, 11, 5, torch.int32),
    (1, 9, 7, 8, 3, torch.int8),  # a type too small for all words
]
DEFAULT = CASES[0]


def draw(rng, books, bits, group, out, groups, dtype):
    """A random weight whose codes take every value of their type, or a few million of them."""
    top = min(torch.iinfo(dtype).max, 1 << 22)
    codes = torch.randint(-top - 1, top + 1, (out, groups, books), generator=rng).to(dtype)
    return (
        codes,
        torch.randn(books, 1 << bits, group, generator=rng),
        0.5 + torch.rand(out, generator=rng),
    )


def exact(codes, codebooks, scales):
    """The dense weight in float64."""
    return naive.decode(codes, codebooks.double(), scales.double())


def check(y, x, dense):
    """Compare with the product in float64, at the size of its sums of magnitudes."""
    assert y.shape == (len(x), len(dense))
    error = (y.double() - x.double() @ dense.T).abs()
    assert (error <= 1e-6 * (x.double().abs() @ dense.abs().T)).all()


def columns(codes, codebooks):
    return codes.shape[1] * codebooks.shape[2]


@pytest.fixture
def threads():
    """Sets torch's number of threads, for this test only."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=["team", "pool"])
def divided(request, monkeypatch):
    """Gives threads work however small it is: torch's team, and the pool that stands in for it."""
    monkeypatch.setattr(cpu_decode, "SMALL", 0)
    if request.param == "pool":
        monkeypatch.setattr(cpu_decode, "_TEAM", None)
    elif cpu_decode._TEAM is None:
        pytest.skip("torch brings no GNU OpenMP here")


@pytest.mark.parametrize("case", CASES)
def test_decode_equals_naive(rng, case):
    weight = draw(rng, *case)
    dense = cpu_decode.decode(*weight)
    torch.testing.assert_close(dense, naive.decode(*weight))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tokens", [1, 3])
def test_matmul_equals_naive(rng, case, tokens):
    weight = draw(rng, *case)
    x = torch.randn(tokens, columns(*weight[:2]), generator=rng)
    check(cpu_matmul.matmul(x, *weight), x, exact(*weight))


@pytest.mark.parametrize("tokens", [0, 2, 4, 5, 6, 7, 8, 9, 16, 23, 24, 50])
def test_any_number_of_tokens(rng, tokens):
    weight = draw(rng, *DEFAULT)
    x = torch.randn(tokens, columns(*weight[:2]), generator=rng)
    check(cpu_matmul.matmul(x, *weight), x, exact(*weight))


def test_plain_codes_give_the_loops_product(rng):
    codes = torch.randint(8, (5, 3, 2), generator=rng, dtype=torch.int32)
    codebooks = torch.randn(2, 8, 4, generator=rng)
    scales = torch.rand(5, generator=rng)
    x = torch.randn(2, 12, generator=rng)
    want = x.double() @ oracles.decode(codes, codebooks, scales).T
    torch.testing.assert_close(cpu_matmul.matmul(x, codes, codebooks, scales), want.float())


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16])
def test_wrapped_codes_mean_the_same_as_plain_ones(rng, dtype):
    plain = torch.randint(256, (9, 6, 2), generator=rng, dtype=torch.int32)
    wrapped = torch.where(plain < 128, plain, plain - 256).to(dtype)
    _, codebooks, scales = draw(rng, 2, 8, 8, 9, 6, dtype)
    x = torch.randn(1, 48, generator=rng)
    same = [cpu_matmul.matmul(x, codes, codebooks, scales) for codes in (plain, wrapped)]
    torch.testing.assert_close(*same)
    assert torch.equal(*[cpu_decode.decode(c, codebooks, scales) for c in (plain, wrapped)])


@pytest.mark.parametrize("out", [1, 7, 8, 15, 16, 17, 64, 130])
@pytest.mark.parametrize("tokens", [1, 2])
def test_every_row_is_computed_once_whatever_the_threads(rng, threads, divided, out, tokens):
    weight = draw(rng, 2, 8, 8, out, 5, torch.int8)
    x = torch.randn(tokens, 40, generator=rng)
    for count in (1, 2, 3):
        threads(count)
        check(cpu_matmul.matmul(x, *weight), x, exact(*weight))
        torch.testing.assert_close(cpu_decode.decode(*weight), naive.decode(*weight))


def test_a_layer_of_the_default_model_on_two_threads(rng, threads):
    threads(2)
    weight = draw(rng, 2, 8, 8, 576, 192, torch.int8)
    dense = exact(*weight)
    for tokens in (1, 8, 40):
        x = torch.randn(tokens, 1536, generator=rng)
        for _ in range(20):  # a race does not show every time
            check(cpu_matmul.matmul(x, *weight), x, dense)


def test_callers_at_once_do_not_disturb_each_other(rng, threads, divided):
    threads(2)
    weights = [draw(rng, *case) for case in CASES[:4]]
    inputs = [torch.randn(2, columns(*weight[:2]), generator=rng) for weight in weights]

    def work(i):
        for _ in range(200):
            y = cpu_matmul.matmul(inputs[i], *weights[i])
        return y

    with ThreadPoolExecutor(len(weights)) as pool:
        for i, y in enumerate(pool.map(work, range(len(weights)))):
            check(y, inputs[i], exact(*weights[i]))


def test_views_are_read_as_they_mean_and_nothing_is_written(rng):
    codes, codebooks, scales = draw(rng, *DEFAULT)
    x = torch.randn(2, columns(codes, codebooks), generator=rng)
    views = (
        x.T.contiguous().T,
        codes.transpose(0, 1).contiguous().transpose(0, 1),
        codebooks.mT.contiguous().mT,
        torch.stack([scales, -scales], 1)[:, 0],
    )
    before = [view.clone() for view in views]
    check(cpu_matmul.matmul(*views), x, exact(codes, codebooks, scales))
    torch.testing.assert_close(cpu_decode.decode(*views[1:]), naive.decode(*before[1:]))
    assert all(torch.equal(view, old) for view, old in zip(views, before, strict=True))


def test_what_is_not_compiled_is_decoded_in_torch(rng):
    codes, codebooks, scales = draw(rng, 2, 3, 4, 6, 5, torch.int32)
    x = torch.randn(2, 20, generator=rng)
    doubles = [value.double() for value in (x, codebooks, scales)]
    y = cpu_matmul.matmul(doubles[0], codes, *doubles[1:])
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, naive.matmul(doubles[0], codes, *doubles[1:]))
    for words, group in ((6, 4), (8, 65)):  # no power of two; too wide a group
        books = torch.randn(2, words, group, generator=rng)
        wide = torch.randn(2, 5 * group, generator=rng)
        check(cpu_matmul.matmul(wide, codes, books, scales), wide, exact(codes, books, scales))
        torch.testing.assert_close(
            cpu_decode.decode(codes, books, scales), naive.decode(codes, books, scales)
        )


def test_wide_groups_are_not_compiled():
    assert cpu_decode.layout(2, 8, 64, torch.int8) == (2, 3, 64, 1)
    assert cpu_decode.layout(2, 8, 65, torch.int8) is None


def test_many_tokens_go_by_chunks_of_rows(rng, monkeypatch):
    weight = draw(rng, *DEFAULT)
    x = torch.randn(40, columns(*weight[:2]), generator=rng)
    for entries in (1, 3 * x.shape[1], 1 << 20):  # a row, three rows, all at a time
        monkeypatch.setattr(cpu_matmul, "CHUNK", entries)
        check(cpu_matmul.matmul(x, *weight), x, exact(*weight))


def test_shapes_that_do_not_fit_are_refused(rng):
    codes, codebooks, scales = draw(rng, *DEFAULT)
    x = torch.randn(1, columns(codes, codebooks), generator=rng)
    with pytest.raises(ValueError, match="x must have 7 groups of 8 columns, got 48 columns"):
        cpu_matmul.matmul(x[:, 8:], codes, codebooks, scales)
    need = r"codes of shape \(13, 7, 2\) need 2 codebooks and 13 scales, got"
    with pytest.raises(ValueError, match=f"{need} 2 and 12"):
        cpu_decode.run(None, x, codes, codebooks, scales[1:], x)
    with pytest.raises(ValueError, match=f"{need} 1 and 13"):
        cpu_decode.run(None, x, codes, codebooks[1:], scales, x)


@pytest.mark.parametrize("place", range(4))
def test_tensors_elsewhere_are_refused(rng, place):
    codes, codebooks, scales = draw(rng, *DEFAULT)
    given = [torch.randn(1, 56, generator=rng), codes, codebooks, scales]
    given[place] = given[place].to("meta")
    with pytest.raises(ValueError, match="must all be on the CPU"):
        cpu_matmul.matmul(*given)
