r"""Which layers of a model are quantized at which scheme, and the bits of everything.

"2 bits" can mean several things, and the ledger gives them all:

    code bits         M B / g                                        what papers quote
    layer bits        codes, fp16 codebooks and fp16 scales          AQLM's equation 10
    stored bits       the same with codes as the file has them: one byte each, or two beyond 8 bits
    bits a parameter  the whole file over all parameters             with what stays dense, at fp16

A budget is honest: it is a limit on the mean stored bits of the quantized layers (a twentieth more
is let through: 2 bits are 2.01 on a large model). Of the schemes that meet it the one with the most
code bits is taken, of those the one with the largest group, and then the fewest codebooks, the
order in which they end on real layers. AQLM's format has one scheme a model; where each layer gets
its own (mixed), the limit holds for each of them.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product

from torch import nn

from quantcore.blocks import LayerInfo, find_blocks, linear_layers
from quantcore.errors import InputError, SchemeError, SourceError
from quantcore.weight import FLOAT_BITS, MAX_CODEBOOKS, Scheme

GROUPS = (8, 4)  # of the schemes that a budget chooses from
BYTE = 8  # bits, the smallest that AQLM's files give a code, and the most that a budget chooses
TOLERANCE = 1.05  # of a budget


@dataclass(frozen=True)
class PlannedLayer:
    """A linear layer and what is to become of it.

    Attributes:
        info: The layer.
        scheme: Its scheme; None leaves it dense.
        why: Why it stays dense, in words.
    """

    info: LayerInfo
    scheme: Scheme | None
    why: str = ""


@dataclass(frozen=True)
class Ledger:
    """The bits of a model, part by part.

    Attributes:
        parameters: Of the original model, a tied head counted once.
        quantized: Weights that are written in codes.
        codes: Bits of codes.
        stored: Bits of codes in the file's types.
        codebooks: Bits of codebooks, fp16.
        scales: Bits of scales, fp16.
        dense: Bits of everything else, fp16.
    """

    parameters: int
    quantized: int
    codes: int
    stored: int
    codebooks: int
    scales: int
    dense: int

    @property
    def code_bits(self) -> float:
        """Bits of codes for one quantized weight."""
        return self.codes / max(1, self.quantized)

    @property
    def layer_bits(self) -> float:
        """Bits of codes, codebooks and scales for one quantized weight."""
        return (self.codes + self.codebooks + self.scales) / max(1, self.quantized)

    @property
    def stored_bits(self) -> float:
        """Bits in the file for one quantized weight."""
        return (self.stored + self.codebooks + self.scales) / max(1, self.quantized)

    @property
    def bits_per_parameter(self) -> float:
        """Bits of the whole file for one parameter of the model."""
        return (self.stored + self.codebooks + self.scales + self.dense) / self.parameters

    def facts(self) -> dict[str, int | float]:
        """Everything, for a document."""
        means = ("code_bits", "layer_bits", "stored_bits", "bits_per_parameter")
        return {**asdict(self), **{name: getattr(self, name) for name in means}}


def plan(
    model: nn.Module,
    budget: Scheme | float,
    mixed: bool = False,
    blocks: Iterable[int] | None = None,
) -> tuple[PlannedLayer, ...]:
    """What becomes of each linear layer in the model's blocks.

    Args:
        model: The model, weights or shapes only.
        budget: A scheme for all layers, or bits a weight, codebooks and scales counted.
        mixed: Let every layer have its own scheme within the budget.
        blocks: Which blocks, from 0; None is all. Layers of others are not in the plan.

    Raises:
        InputError: there is no such block, or the budget fits no layer.
        SourceError: the model has blocks with weights that are in no linear layer.
    """
    layers = _chosen(model, blocks)
    if isinstance(budget, Scheme):
        if mixed:
            raise InputError("give a budget in bits, or one scheme for all layers, not both")
        return _planned(layers, dict.fromkeys(layers, budget))
    if mixed:
        return _planned(layers, {info: _best([info], budget) for info in layers})
    return _planned(layers, dict.fromkeys(layers, _best(layers, budget)))


def ledger(model: nn.Module, planned: Iterable[PlannedLayer]) -> Ledger:
    """The bits of the model once the plan is carried out."""
    parameters = sum(value.numel() for value in model.parameters())  # names a tied weight once
    chosen = [(layer.scheme, layer.info) for layer in planned if layer.scheme is not None]
    numbers = [scheme.groups(i.out, i.columns) * scheme.codebooks for scheme, i in chosen]
    quantized = sum(info.out * info.columns for _, info in chosen)
    return Ledger(
        parameters=parameters,
        quantized=quantized,
        codes=sum(n * scheme.bits for n, (scheme, _) in zip(numbers, chosen, strict=True)),
        stored=sum(n * _width(scheme) for n, (scheme, _) in zip(numbers, chosen, strict=True)),
        codebooks=sum(s.codebooks * s.size * s.group * FLOAT_BITS for s, _ in chosen),
        scales=sum(info.out * FLOAT_BITS for _, info in chosen),
        dense=(parameters - quantized) * FLOAT_BITS,
    )


def one_scheme(planned: Iterable[PlannedLayer]) -> Scheme | None:
    """The scheme that all quantized layers share, as AQLM's format wants; None if they differ."""
    schemes = {layer.scheme for layer in planned if layer.scheme is not None}
    return schemes.pop() if len(schemes) == 1 else None


def _chosen(model: nn.Module, blocks: Iterable[int] | None) -> list[LayerInfo]:
    """The linear layers of the blocks asked for; a block with other weights is refused."""
    name, every = find_blocks(model)
    wanted = set(range(len(every))) if blocks is None else set(blocks)
    if not wanted or not wanted <= set(range(len(every))):
        raise InputError(
            f"blocks must be from 0 to {len(every) - 1}, got {sorted(wanted) or 'none'}"
        )
    for n in sorted(wanted):
        _refuse_other_weights(f"{name}.{n}", every[n])
    return [info for info in linear_layers(model).values() if info.block in wanted]


def _refuse_other_weights(name: str, block: nn.Module) -> None:
    for inner, module in block.named_modules():
        if isinstance(module, nn.Linear):
            continue
        for parameter, value in module.named_parameters(recurse=False):
            if value.dim() > 1:
                raise SourceError(
                    f"{name}.{inner}.{parameter} {tuple(value.shape)} is a weight in no linear "
                    f"layer (a {type(module).__name__}), which cannot be quantized here; choose a "
                    "model without fused experts"
                )


def _planned(
    layers: list[LayerInfo], schemes: dict[LayerInfo, Scheme | None]
) -> tuple[PlannedLayer, ...]:
    planned = []
    for info in layers:
        scheme, why = schemes[info], ""
        why = "no scheme fits into the budget" if scheme is None else _misfit(scheme, info)
        planned.append(PlannedLayer(info, None if why else scheme, why))
    if all(layer.scheme is None for layer in planned):
        raise InputError(f"no layer can be quantized: {planned[0].info.name}: {planned[0].why}")
    return tuple(planned)


def _misfit(scheme: Scheme, info: LayerInfo) -> str:
    """Why a scheme does not fit a layer; nothing if it does."""
    try:
        scheme.check(info.out, info.columns)
    except SchemeError as error:
        return str(error)
    return ""


def _best(layers: list[LayerInfo], budget: float) -> Scheme | None:
    """The scheme that these layers share within the budget; None if there is none."""
    fitting = []
    for scheme in _candidates():
        own = [info for info in layers if not _misfit(scheme, info)]
        weights = sum(info.out * info.columns for info in own)
        if own and sum(_stored(scheme, info) for info in own) <= TOLERANCE * budget * weights:
            fitting.append(scheme)
    return max(fitting, key=lambda s: (s.code_bits, s.group, -s.codebooks), default=None)


def _candidates() -> Iterable[Scheme]:
    shapes = product(range(1, MAX_CODEBOOKS + 1), range(1, BYTE + 1), GROUPS)
    return (Scheme(*shape) for shape in shapes)


def _stored(scheme: Scheme, info: LayerInfo) -> float:
    """Bits that a layer takes in the file."""
    codes = scheme.groups(info.out, info.columns) * scheme.codebooks
    bits = scheme.bits_per_weight(info.out, info.columns) * info.out * info.columns
    return bits + codes * (_width(scheme) - scheme.bits)


def _width(scheme: Scheme) -> int:
    """Bits of one code in the file."""
    return BYTE if scheme.bits <= BYTE else 2 * BYTE
