import cases
import oracles
import pytest
import torch

from quantcore import kernels, linear
from quantcore.kernels import naive
from quantcore.linear import QuantizedLinear
from quantcore.weight import AdditiveWeight, Scheme


@pytest.fixture(params=["own", "naive"])
def make(request, monkeypatch):
    """The layer over the kernels that are chosen for it, and over the naive ones."""
    if request.param == "naive":
        for name in ("matmul", "decode", "sum_by_code"):
            monkeypatch.setattr(kernels, name, getattr(naive, name))


def draw(rng, out, groups, scheme):
    """A random weight, its layer with a bias, and the dense weight by loops."""
    weight = cases.make(rng, out, groups, scheme).weight
    bias = torch.randn(out, generator=rng)
    dense = oracles.decode(weight.codes, weight.codebooks, weight.scales)
    return weight, QuantizedLinear.from_weight(weight, bias), dense, bias


@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
def test_forward_is_the_dense_product(rng, make, out, groups, scheme):
    _, layer, dense, bias = draw(rng, out, groups, scheme)
    for leading in ((), (1,), (4,), (2, 3), (0,), (2, 1, 20)):
        x = torch.randn(*leading, groups * scheme.group, generator=rng)
        want = (x.double() @ dense.T + bias.double()).float()
        torch.testing.assert_close(layer(x).detach(), want, rtol=1e-5, atol=1e-5)
        with torch.inference_mode():
            torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)


def test_without_a_bias(rng):
    weight, layer, dense, _ = draw(rng, *cases.SHAPES[1])
    bare = QuantizedLinear.from_weight(weight)
    x = torch.randn(2, dense.shape[1], generator=rng)
    torch.testing.assert_close(bare(x) + layer.bias, layer(x))
    assert "bias" not in bare.state_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("whole", [False, True])
def test_halves_are_computed_in_float32(rng, dtype, whole):
    _, layer, _, _ = draw(rng, 5, 4, Scheme(1, 3, 3))
    if whole:
        layer.to(dtype)
    x = torch.randn(3, 12, generator=rng).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert torch.equal(y, layer.float()(x.float()).to(dtype))


def test_state_is_that_of_aqlm_checkpoints(rng):
    # shapes and types as transformers' AQLM integration makes them
    for bits, dtype in ((8, torch.int8), (3, torch.int8), (9, torch.int16), (16, torch.int16)):
        scheme = Scheme(2, bits, 4)
        state = QuantizedLinear(12, 5, scheme, bias=True).state_dict()
        kinds = {name: (tuple(value.shape), value.dtype) for name, value in state.items()}
        assert kinds == {
            "codes": ((5, 3, 2), dtype),
            "codebooks": ((2, 1 << bits, 1, 4), torch.float32),
            "scales": ((5, 1, 1, 1), torch.float32),
            "bias": ((5,), torch.float32),
        }


def test_codes_are_wrapped_as_aqlm_packs_them():
    for bits in (1, 3, 8, 16):
        size = 1 << bits
        codes = torch.arange(size, dtype=torch.int32).reshape(1, -1, 1)
        weight = AdditiveWeight(codes, torch.zeros(1, size, 2), torch.ones(1))
        stored = QuantizedLinear.from_weight(weight).codes.flatten().tolist()
        assert stored == [k if k < size // 2 else k - size for k in range(size)]


@pytest.mark.parametrize(("out", "groups", "scheme"), [*cases.SHAPES, (3, 4, Scheme(2, 8, 8))])
def test_weight_survives_the_round_trip(rng, out, groups, scheme):
    weight = cases.make(rng, out, groups, scheme).weight
    layer = QuantizedLinear.from_weight(weight)
    fresh = QuantizedLinear(groups * scheme.group, out, scheme)
    fresh.load_state_dict(layer.state_dict())
    for back in (layer.to_weight(), fresh.to_weight()):
        assert back.scheme == scheme
        assert torch.equal(back.codes, weight.codes)
        assert torch.equal(back.codebooks, weight.codebooks)
        assert torch.equal(back.scales, weight.scales)


def test_the_layer_holds_copies_in_the_weights_type(rng):
    weight, layer, _, bias = draw(rng, *cases.SHAPES[1])
    for value in (weight.codebooks, weight.scales, bias):
        value.zero_()
    assert all(parameter.abs().sum() > 0 for parameter in layer.parameters())
    double = AdditiveWeight(weight.codes, weight.codebooks.double(), weight.scales.double())
    types = {p.dtype for p in QuantizedLinear.from_weight(double, bias).parameters()}
    assert types == {torch.float64}


@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
@pytest.mark.parametrize("chunk", [1, 1 << 22])  # a row at a time; all
def test_gradients_are_those_through_naive_decode(
    rng, make, monkeypatch, out, groups, scheme, chunk
):
    monkeypatch.setattr(linear, "CHUNK", chunk)
    weight, layer, _, bias = draw(rng, out, groups, scheme)
    x = torch.randn(2, 3, groups * scheme.group, generator=rng)
    given = torch.randn(2, 3, out, generator=rng)
    leaves = [v.double().requires_grad_() for v in (x, weight.codebooks, weight.scales, bias)]
    (leaves[0] @ naive.decode(weight.codes, *leaves[1:3]).T + leaves[3]).backward(given.double())
    x.requires_grad_()
    layer(x).backward(given)
    for value, leaf in zip((x, layer.codebooks, layer.scales, layer.bias), leaves, strict=True):
        want = leaf.grad.float().view_as(value)
        torch.testing.assert_close(value.grad, want, rtol=1e-5, atol=1e-4)
    assert layer.codes.grad is None


def test_gradcheck(rng):
    _, layer, dense, _ = draw(rng, 4, 3, Scheme(2, 2, 2))
    layer.double()
    x = torch.randn(2, dense.shape[1], generator=rng, dtype=torch.float64, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def product(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(product, (x, *values))


@pytest.mark.parametrize("learns", ["x", "codebooks", "scales", "bias"])
def test_only_what_asks_gets_a_gradient(rng, learns):
    _, layer, dense, _ = draw(rng, *cases.SHAPES[0])
    layer.requires_grad_(False)
    x = torch.randn(2, dense.shape[1], generator=rng)
    leaves = {"x": x, **dict(layer.named_parameters())}
    leaves[learns].requires_grad_()
    layer(x).sum().backward()
    assert [name for name, leaf in leaves.items() if leaf.grad is not None] == [learns]


def test_halves_learn_too(rng):
    _, layer, dense, _ = draw(rng, *cases.SHAPES[1])
    x = torch.randn(2, dense.shape[1], generator=rng)
    layer(x).sum().backward()
    want = layer.codebooks.grad.clone()
    layer.zero_grad()
    layer.bfloat16()(x.bfloat16()).sum().backward()
    torch.testing.assert_close(layer.codebooks.grad.float(), want, rtol=0.05, atol=0.05)


def test_printing_names_the_sizes():
    layer = QuantizedLinear(16, 4, Scheme(2, 3, 8), bias=True)
    assert repr(layer) == "QuantizedLinear(16, 4, 2x3 g8, bias=True)"


def test_layers_are_replaced_and_listed(rng):
    _, layer, _, _ = draw(rng, 4, 3, Scheme(2, 2, 2))
    model = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Sequential(torch.nn.Linear(6, 4)))
    assert linear.quantized_layers(model) == {}
    linear.replace(model, "1.0", layer)
    assert linear.quantized_layers(model) == {"1.0": layer}
    assert model[1][0] is layer
    with pytest.raises(AttributeError):
        linear.replace(model, "1.1", layer)
