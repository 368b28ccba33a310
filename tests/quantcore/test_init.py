import cases
import pytest
import torch

from quantcore import clustering, init
from quantcore.clustering import EMProblem
from quantcore.errors import InputError, SchemeError
from quantcore.init import INITIALISERS, InitConfig
from quantcore.objective import LayerProblem
from quantcore.weight import Scheme

SCHEME = Scheme(2, 2, 4)


@pytest.fixture
def problem(rng):
    return cases.make(rng, 24, 6, SCHEME).problem


@pytest.mark.parametrize("name", INITIALISERS)
def test_greedy_residual_books_add_up(problem, name):
    """Whatever the metric, a step fits one book to what the books before it left over."""
    rng = torch.Generator().manual_seed(3)
    config = InitConfig(name)
    weight = init.start(problem, SCHEME)
    torch.testing.assert_close(weight.scales, problem.weight.norm(dim=1))
    left = problem.weight / weight.scales[:, None]
    for book in range(2):
        torch.testing.assert_close(init.residual(problem, weight).flatten(1), left)
        weight = init.step(problem, weight, config, rng)
        left -= weight.codebooks[book][weight.codes[..., book].long()].flatten(1)
    torch.testing.assert_close(init.residual(problem, weight).flatten(1), left)
    again = init.run(problem, SCHEME, config, torch.Generator().manual_seed(3))
    assert torch.equal(again.codes, weight.codes)


def test_the_first_greedy_book_is_kmeans(problem):
    got = init.run(problem, SCHEME, InitConfig("greedy"), torch.Generator().manual_seed(3))
    vectors = (problem.weight / problem.weight.norm(dim=1)[:, None]).unflatten(1, (-1, 4))
    plain = EMProblem.euclidean(vectors)
    state = clustering.start(plain, 4, torch.Generator().manual_seed(3))
    want = clustering.run(plain, state, init.KMEANS)
    torch.testing.assert_close(got.codebooks[0], want.codebook)
    assert torch.equal(got.codes[..., 0], want.codes)


def test_output_metric_lowers_the_layer_error(problem):
    def error(name):
        rng = torch.Generator().manual_seed(3)
        return problem.errors(init.run(problem, SCHEME, InitConfig(name), rng).dense()).error

    assert error("oa-em") < error("greedy")
    assert error("oa-em-adam") < error("greedy")


def test_with_identity_hessian_and_equal_rows_oaem_keeps_the_kmeans_optimum(rng):
    # Euclidean EM from a converged k-means has nowhere to go
    weight = torch.randn(24, 24, generator=rng)
    weight /= weight.norm(dim=1, keepdim=True)
    problem = LayerProblem.weight_only(weight)
    books = [
        init.run(problem, Scheme(1, 2, 4), InitConfig(name), torch.Generator().manual_seed(3))
        for name in ("greedy", "oa-em")
    ]
    assert torch.equal(books[0].codes, books[1].codes)
    torch.testing.assert_close(books[0].codebooks, books[1].codebooks, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", INITIALISERS)
def test_another_seed_gives_other_books(problem, name):
    one, two = (
        init.run(problem, SCHEME, InitConfig(name), torch.Generator().manual_seed(seed))
        for seed in (1, 2)
    )
    assert not torch.equal(one.codebooks, two.codebooks)


def test_the_observer_hears_of_every_book_and_metric(problem, rng):
    seen = []
    init.run(problem, SCHEME, InitConfig("oa-em-adam"), rng, seen.append)
    assert {(info.book, info.metric) for info in seen} == {
        (book, metric) for book in (0, 1) for metric in ("weights", "outputs")
    }
    assert sum(info.metric == "outputs" for info in seen) == 2 * 3  # three rounds a book


def test_a_scheme_that_does_not_divide_is_refused(problem, rng):
    with pytest.raises(SchemeError, match="24 inputs do not divide into groups of 5"):
        init.run(problem, Scheme(2, 2, 5), InitConfig(), rng)


def test_unknown_initialiser_lists_the_known():
    with pytest.raises(InputError, match=r"no initialiser 'kmeans\+\+'.*greedy, oa-em, oa-em-adam"):
        InitConfig("kmeans++")
