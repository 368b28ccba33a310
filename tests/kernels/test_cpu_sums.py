import pytest
import torch

from quantcore.kernels import cpu_sums, naive


def draw(rng, low, high):
    return int(torch.randint(low, high, (1,), generator=rng))


@pytest.mark.parametrize("seed", range(100))
def test_sums_equal_naive_on_odd_shapes(rng, seed):
    rng.manual_seed(seed)
    out, groups, books, group = (draw(rng, 1, top) for top in (40, 9, 5, 18))
    size = 1 << draw(rng, 1, 9)
    codes = torch.randint(size, (out, groups, books), generator=rng, dtype=torch.int32)
    if seed % 2 and size == 256:
        codes = codes.to(torch.int8)  # wrapped, as stored
    pulls = torch.randn(out, groups * group, generator=rng)
    scales = torch.rand(out, generator=rng)
    want = naive.sum_by_code(pulls, codes, scales, size)
    torch.testing.assert_close(cpu_sums.sum_by_code(pulls, codes, scales, size), want)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sums_are_the_adjoint_of_decoding(rng, monkeypatch, threads):
    monkeypatch.setattr(cpu_sums, "GRAIN", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    codes = torch.randint(16, (50, 7, 3), generator=rng, dtype=torch.int32)
    words, pulls = torch.randn(3, 16, 5, generator=rng), torch.randn(50, 35, generator=rng)
    scales = torch.rand(50, generator=rng)
    dense = naive.decode(codes, words, scales)
    sums = cpu_sums.sum_by_code(pulls, codes, scales, 16)
    torch.testing.assert_close(
        (dense.double() * pulls).sum(), (words.double() * sums).sum(), rtol=1e-5, atol=1e-4
    )  # decoded in float32
