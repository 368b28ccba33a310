# ruff: noqa: E402 - Triton is looked for first, and reads the environment when it is imported
"""The Triton kernels against their naive twins: on a GPU, or interpreted where there is none."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
triton = pytest.importorskip("triton")

from quantcore.errors import InputError
from quantcore.kernels import (
    assign_triton,
    best_triton,
    decode_triton,
    launch,
    matmul_triton,
    naive,
)
from quantcore.kernels.launch import Device, Rule, Setting

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CODE_TYPES = [torch.int8, torch.int16, torch.int32]


@pytest.fixture
def rng():
    return torch.Generator(DEVICE).manual_seed(0)


@pytest.fixture(autouse=True)
def dots_of_bfloat16(monkeypatch):
    """Let the interpreter, which keeps bfloat16 as its bits, multiply numbers in a dot."""
    if DEVICE.type == "cuda":
        return
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    plain = InterpreterBuilder.create_dot

    def widened(handle):
        if handle.dtype.scalar != triton.language.bfloat16:
            return handle
        bits = torch.from_numpy(handle.data.view("int16")).view(torch.bfloat16)
        return TensorHandle(bits.float().numpy(), triton.language.float32)

    def create_dot(self, a, b, *rest):
        return plain(self, widened(a), widened(b), *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


@pytest.fixture
def many_processors(monkeypatch):
    """A device that wants more programs than there are rows, so that rows are shared."""
    monkeypatch.setattr(launch, "device_of", lambda tensor: Device(80, 1000))


def whole(rng, *shape, most=3):
    """Small whole numbers: sums are exact in any order, and ties are many."""
    return torch.randint(-most, most + 1, shape, generator=rng, device=DEVICE).float()


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, device=DEVICE)


# out, groups, group, size
ASSIGNMENTS = [(1, 1, 1, 1), (7, 5, 3, 5), (33, 2, 8, 21), (300, 1, 4, 8), (3, 2, 16, 6)]


def em_problem(make, rng, out, groups, group, size):
    roots = make(rng, groups, group, group)
    return make(rng, out, groups, group), roots @ roots.mT, make(rng, size, group)


@pytest.mark.parametrize("shape", ASSIGNMENTS)
def test_assign_is_the_twin_exactly_where_sums_are_exact(rng, shape):
    problem = em_problem(whole, rng, *shape)
    codes, costs = assign_triton.assign(*problem)
    wanted, low = naive.assign(*problem)
    assert codes.dtype == torch.int32
    assert torch.equal(codes, wanted)
    assert torch.equal(costs, low)


@pytest.mark.parametrize("shape", ASSIGNMENTS)
def test_assign_finds_the_nearest_word(rng, shape):
    problem = em_problem(normal, rng, *shape)
    codes, costs = assign_triton.assign(*problem)
    wanted, low = naive.assign(*(tensor.double() for tensor in problem))
    assert torch.equal(codes, wanted)
    # two float32 sums of the size of a vector's own length cancel in a cost
    size = torch.einsum("ojg,jgh,ojh->", problem[0], problem[1], problem[0]) / costs.numel()
    torch.testing.assert_close(costs.double(), low, rtol=1e-5, atol=1e-5 * float(size))
    assert (costs >= 0).all()


def test_assign_gives_equal_words_to_the_first(rng):
    vectors, metrics, codebook = em_problem(normal, rng, 9, 3, 4, 5)
    codes, _ = assign_triton.assign(vectors, metrics, codebook.repeat(3, 1))
    assert torch.equal(codes, assign_triton.assign(vectors, metrics, codebook)[0])


def test_assign_costs_nothing_where_a_vector_is_a_word_and_never_less(rng):
    vectors, metrics, _ = em_problem(normal, rng, 12, 1, 8, 1)
    costs = assign_triton.assign(vectors + 3, metrics, vectors[:, 0] + 3)[1]
    assert (costs >= 0).all()  # the sums do cancel to less than nothing for some
    torch.testing.assert_close(costs, torch.zeros_like(costs), rtol=0, atol=1e-3)


@pytest.mark.parametrize("limit", ["CHUNK", "MOST_GROUPS"])
def test_assign_in_chunks_of_groups_is_the_same(rng, monkeypatch, limit):
    problem = em_problem(whole, rng, 6, 5, 4, 7)
    wanted = assign_triton.assign(*problem)
    monkeypatch.setattr(assign_triton, limit, 50 if limit == "CHUNK" else 2)
    launches, codes, costs = assign_triton.plan(*problem, Device(80, 1))
    assert len(launches) == 3 * 3
    launch.run(launches, codes)
    assert torch.equal(codes, wanted[0])
    assert torch.equal(costs, wanted[1])


def test_assign_takes_views_and_expanded_metrics(rng):
    vectors = whole(rng, 4, 6, 5).transpose(0, 1)[:, 1:]
    metrics = torch.eye(5, device=DEVICE).expand(3, -1, -1)
    codebook = whole(rng, 5, 4).T
    codes, costs = assign_triton.assign(vectors, metrics, codebook)
    wanted, low = naive.assign(vectors, metrics, codebook)
    assert torch.equal(codes, wanted)
    assert torch.equal(costs, low)


def test_assign_leaves_wide_groups_to_torch(rng, monkeypatch):
    monkeypatch.delattr(assign_triton, "plan")
    problem = em_problem(whole, rng, 3, 1, launch.WIDEST + 1, 4)
    assert torch.equal(assign_triton.assign(*problem)[0], naive.assign(*problem)[0])


def test_assign_refuses_other_numbers_than_float32(rng):
    vectors, metrics, codebook = em_problem(whole, rng, 3, 2, 4, 4)
    with pytest.raises(InputError, match="must be float32"):
        assign_triton.assign(vectors.double(), metrics, codebook)


# rows, beam, group, size, width
SEARCHES = [
    (1, 1, 1, 2, 1),
    (3, 1, 8, 300, 5),
    (2, 3, 5, 40, 7),
    (3, 8, 8, 16, 8),
    (1, 2, 4, 9, 18),
    (2, 2, 4, 3, 9),
    (1, 32, 4, 256, 32),
    (2, 5, 16, 130, 33),
]


def beam_problem(make, rng, rows, beam, group, size):
    codebook = make(rng, size, group)
    targets, base = make(rng, rows, beam, group), make(rng, rows, beam)
    return targets, base, codebook, codebook.square().sum(1)


def lowest(targets, base, codebook, norms, width):
    """Every candidate's (score, choice), sorted."""
    scores = base[:, :, None] + norms - 2 * targets @ codebook.T
    rows = [sorted(zip(row, range(len(row)), strict=True)) for row in scores.flatten(1).tolist()]
    kept = torch.tensor([row[:width] for row in rows], dtype=torch.float64, device=DEVICE)
    return kept[..., 0], kept[..., 1].long()


@pytest.mark.parametrize("case", SEARCHES)
def test_best_are_the_lowest_with_ties_to_the_lowest_choice(rng, case):
    *shape, width = case
    problem = beam_problem(whole, rng, *shape)
    scores, choices = best_triton.best(*problem, width)
    wanted, order = lowest(*problem, width)
    assert torch.equal(choices, order)
    assert torch.equal(scores.double(), wanted)
    assert torch.equal(choices, naive.best(*problem, width)[1])


@pytest.mark.parametrize("case", [(2, 3, 4, 4097, 9), (1, 1, 16, 1030, 32), (1, 2, 3, 4600, 1)])
@pytest.mark.usefixtures("many_processors")
def test_best_is_the_same_where_programs_share_the_words(rng, case):
    *shape, width = case
    problem = beam_problem(whole, rng, *shape)
    launches, *_ = best_triton.plan(*problem, width, Device(80, 1000))
    assert len(launches) == 2
    assert launches[0].grid[1] > 1
    scores, choices = best_triton.best(*problem, width)
    wanted, order = lowest(*problem, width)
    assert torch.equal(choices, order)
    assert torch.equal(scores.double(), wanted)


@pytest.mark.parametrize("case", SEARCHES)
def test_best_scores_of_random_numbers(rng, case):
    *shape, width = case
    problem = beam_problem(normal, rng, *shape)
    scores, choices = best_triton.best(*problem, width)
    wanted, order = lowest(*(tensor.double() for tensor in problem), width)
    assert torch.equal(choices, order)
    torch.testing.assert_close(scores.double(), wanted, rtol=1e-5, atol=1e-5)


def test_best_takes_zeros_of_either_sign_for_equal_and_keeps_infinities_last():
    targets, codebook = torch.zeros(1, 4, 1, device=DEVICE), torch.zeros(2, 1, device=DEVICE)
    base = torch.tensor([[-1.0, 0.0, -0.0, torch.inf]], device=DEVICE)
    norms = torch.tensor([-0.0, -0.0], device=DEVICE)
    scores, choices = best_triton.best(targets, base, codebook, norms, 7)
    assert choices.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert scores.tolist() == [[-1.0] * 2 + [0.0] * 4 + [torch.inf]]


@pytest.mark.filterwarnings("ignore:All-NaN")  # numpy's word on what the interpreter computes
def test_best_of_no_numbers_names_candidates_that_exist():
    targets = torch.full((2, 2, 3), torch.nan, device=DEVICE)
    codebook = torch.ones(4, 3, device=DEVICE)
    scores, choices = best_triton.best(targets, targets[..., 0], codebook, codebook[:, 0], 3)
    assert scores.isnan().all()
    assert ((choices >= 0) & (choices < 8)).all()


@pytest.mark.parametrize(("group", "width"), [(2, best_triton.MOST + 1), (launch.WIDEST + 1, 2)])
def test_best_leaves_wide_beams_and_groups_to_torch(rng, monkeypatch, group, width):
    monkeypatch.delattr(best_triton, "plan")
    problem = beam_problem(whole, rng, 2, 3, group, 40)
    found, wanted = best_triton.best(*problem, width), naive.best(*problem, width)
    assert torch.equal(found[1], wanted[1])


def test_best_refuses_other_numbers_than_float32(rng):
    targets, base, codebook, norms = beam_problem(whole, rng, 2, 2, 3, 4)
    with pytest.raises(InputError, match="must be float32"):
        best_triton.best(targets, base, codebook, norms.half(), 2)


# out, groups, books, size, group
WEIGHTS = [
    (1, 1, 1, 2, 1),
    (7, 5, 3, 8, 3),
    (37, 70, 2, 256, 8),
    (9, 40, 1, 65536, 8),
    (5, 33, 4, 16, 4),
    (6, 7, 2, 64, 12),
    (4, 3, 1, 4, 40),
]


def weight(rng, shape, dtype=torch.float32, codes=torch.int32):
    out, groups, books, size, group = shape
    drawn = torch.randint(size, (out, groups, books), generator=rng, device=DEVICE)
    codebooks, scales = normal(rng, books, size, group), normal(rng, out)
    return drawn.to(codes), codebooks.to(dtype), scales.to(dtype)


@pytest.mark.parametrize("shape", WEIGHTS)
def test_decode_is_the_twin(rng, shape):
    parts = weight(rng, shape)
    torch.testing.assert_close(decode_triton.decode(*parts), naive.decode(*parts))


@pytest.mark.parametrize("stored", CODE_TYPES)
def test_decode_reads_codes_wrapped_to_a_signed_type(rng, stored):
    size = 256 if stored == torch.int8 else 65536
    parts = weight(rng, (5, 9, 2, size, 4))
    wrapped = parts[0].to(stored)
    assert stored == torch.int32 or (wrapped < 0).any()
    assert torch.equal(decode_triton.decode(wrapped, *parts[1:]), naive.decode(*parts))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_decode_rounds_once_to_the_weights_type(rng, dtype):
    codes, codebooks, scales = weight(rng, (5, 9, 3, 16, 8), dtype)
    dense = decode_triton.decode(codes, codebooks, scales)
    exact = naive.decode(codes, codebooks.float(), scales.float())
    assert dense.dtype == dtype
    # the order of the float32 sum may move a number across a rounding edge
    torch.testing.assert_close(dense, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_decode_refuses_a_size_without_low_bits(rng):
    with pytest.raises(InputError, match="a power of two of words, got 6"):
        decode_triton.decode(*weight(rng, (2, 3, 1, 6, 4)))


def check_product(x, parts, tolerance):
    codes, codebooks, scales = parts
    found = matmul_triton.matmul(x, *parts)
    wanted = naive.matmul(x.double(), codes, codebooks.double(), scales.double())
    assert found.dtype == x.dtype
    assert found.shape == wanted.shape
    error = (found.double() - wanted).norm() / wanted.norm()
    assert float(error) < tolerance


@pytest.mark.parametrize("tokens", [1, 2, 17, 65])
@pytest.mark.parametrize("shape", WEIGHTS)
def test_matmul_is_the_twin(rng, shape, tokens):
    parts = weight(rng, shape)
    check_product(normal(rng, tokens, shape[1] * shape[4]), parts, 1e-6)


@pytest.mark.parametrize("tokens", [1, 3, 64, 70])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("stored", CODE_TYPES)
def test_matmul_of_half_precision_sums_in_float32(rng, tokens, dtype, stored):
    parts = weight(rng, (18, 200, 2, 256, 8), dtype, stored)
    x = normal(rng, tokens, 1600).to(dtype)
    # the result and each weight are rounded; a sum kept in half precision would be far off
    check_product(x, parts, torch.finfo(dtype).eps)


@pytest.mark.parametrize("tokens", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.usefixtures("many_processors")
def test_matmul_is_the_same_where_programs_share_the_groups(rng, tokens, dtype):
    parts = weight(rng, (5, 601, 2, 32, 8), dtype)
    x = normal(rng, tokens, 601 * 8).to(dtype)
    launches, y = matmul_triton.plan(x, *parts, Device(80, 1000))
    assert launches[0].grid[2] == len(y) > 1
    assert y.dtype == torch.float32
    check_product(x, parts, 1e-6 if dtype == torch.float32 else 1e-3)


@pytest.mark.parametrize("tokens", [1, 2, 64])
def test_matmul_of_few_tokens_writes_no_dense_weight(rng, monkeypatch, tokens):
    monkeypatch.delattr(matmul_triton, "decode")
    check_product(normal(rng, tokens, 64), weight(rng, (6, 16, 2, 16, 4)), 1e-6)


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.filterwarnings("ignore:invalid value")  # of rows that only fill up a tile
def test_matmul_multiplies_no_column_by_what_fills_up_a_group(rng, tokens):
    parts = weight(rng, (6, 16, 1, 16, 3))
    x = normal(rng, tokens, 48)
    x[:, 3] = torch.inf  # the first of a group: behind the padding of the one before
    found, wanted = matmul_triton.matmul(x, *parts), naive.matmul(x, *parts)
    assert wanted.isinf().all()
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("tokens", [1, 4])
def test_matmul_takes_activations_of_another_type_than_the_weight(rng, tokens):
    parts = weight(rng, (6, 8, 2, 16, 8))
    check_product(normal(rng, tokens, 64).half(), parts, 1e-3)


def test_matmul_of_many_tokens_decodes_some_rows_at_a_time(rng, monkeypatch):
    parts = weight(rng, (11, 6, 2, 16, 4))
    seen = []

    def decode(codes, *rest):
        seen.append(len(codes))
        return decode_triton.decode(codes, *rest)

    monkeypatch.setattr(matmul_triton, "decode", decode)
    monkeypatch.setattr(matmul_triton, "CHUNK", 4 * 24)
    check_product(normal(rng, 65, 24), parts, 1e-6)
    assert seen == [4, 4, 3]


def test_matmul_of_views_and_of_no_tokens(rng):
    codes, codebooks, scales = weight(rng, (6, 8, 2, 16, 4))
    parts = codes[::2], codebooks, scales[::2]
    check_product(normal(rng, 32, 3).T, parts, 1e-6)
    assert matmul_triton.matmul(normal(rng, 0, 32), *parts).shape == (0, 3)


@pytest.mark.parametrize("kernel", launch.TABLE)
@pytest.mark.parametrize("arch", [75, 80, 90, 121])
def test_every_kernel_has_a_setting_for_every_group(kernel, arch):
    for group in range(1, launch.WIDEST + 1):
        setting = launch.choose(kernel, arch, group)
        assert setting.rows & (setting.rows - 1) == 0
        assert setting.columns & (setting.columns - 1) == 0


def test_the_first_rule_that_holds_is_taken(monkeypatch):
    newer, small, rest = Setting(1, 1, 1), Setting(2, 1, 1), Setting(4, 1, 1)
    rules = (Rule(newer, arch=90, group=8), Rule(small, group=4), Rule(rest))
    monkeypatch.setitem(launch.TABLE, "kernel", rules)
    taken = {(a, g): launch.choose("kernel", a, g) for a in (80, 90) for g in (4, 8, 9)}
    assert [taken[80, g] for g in (4, 8, 9)] == [small, rest, rest]
    assert [taken[90, g] for g in (4, 8, 9)] == [newer, newer, rest]
