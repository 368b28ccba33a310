import pytest
import torch

from quantcore import kernels
from quantcore.kernels import naive
from quantcore.kernels.panel import Panel, Rows


@pytest.mark.parametrize(
    "kernel", ["assign", "codeword_sums", "visit", "decode", "sum_by_code", "matmul"]
)
def test_float32_on_the_cpu_runs_compiled_and_the_rest_naive(kernel):
    assert "cpu_" in kernels.chosen(kernel, "cpu", torch.float32).__module__
    assert kernels.chosen(kernel, "cpu", torch.float64) is getattr(naive, kernel)


def test_best_has_no_compiled_twin_of_its_own_on_the_cpu():
    assert kernels.chosen("best", "cpu", torch.float32) is naive.best


@pytest.mark.parametrize("kernel", ["assign", "best", "decode", "matmul"])
def test_a_gpu_runs_triton_where_the_type_allows(kernel):
    pytest.importorskip("triton")
    assert kernels.chosen(kernel, "cuda", torch.float32).__module__.endswith("_triton")
    halves = kernels.chosen(kernel, "cuda", torch.float16)
    assert (halves is getattr(naive, kernel)) == (kernel in ("assign", "best"))
    assert kernels.chosen(kernel, "cuda", torch.float64) is getattr(naive, kernel)


def test_without_triton_a_gpu_runs_naive(monkeypatch):
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert kernels.chosen("decode", "cuda", torch.float32) is naive.decode


def test_the_search_on_another_device_is_the_torch_one_with_its_own_best(monkeypatch):
    seen, visit = [], naive.visit

    def watched(*args):
        seen.append(args[-1])
        return visit(*args)

    monkeypatch.setattr(naive, "visit", watched)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    kernels.visit(Panel(one, one[0]), one, Rows(one, None, one, one[0]), (1,))
    assert seen == [naive.best]


def test_small_systems_are_solved_compiled_in_float64():
    assert "cpu_" in kernels.chosen("solve", "cpu", torch.float64).__module__
    assert kernels.chosen("solve", "cuda", torch.float64) is naive.solve


@pytest.mark.parametrize("wanting", ["codebooks", "scales"])
def test_where_a_gradient_is_wanted_the_naive_make_runs(rng, wanting):
    codes = torch.randint(4, (3, 2, 2), generator=rng, dtype=torch.int32)
    given = {
        "codebooks": torch.randn(2, 4, 8, generator=rng),
        "scales": torch.rand(3, generator=rng),
    }
    given[wanting].requires_grad_()
    kernels.decode(codes, **given).sum().backward()
    assert given[wanting].grad.abs().sum() > 0
    given[wanting].grad = None
    kernels.matmul(torch.ones(1, 16), codes, **given).sum().backward()
    assert given[wanting].grad.abs().sum() > 0
    with torch.no_grad():
        assert not kernels.decode(codes, **given).requires_grad
