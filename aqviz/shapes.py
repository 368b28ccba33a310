"""Layers of known models by their shapes, and schemes that give a small layer a large one's rho.

rho = N / K^M needs only a shape and a scheme (`Scheme.rho`), so a large model's regime can be had
in miniature: on a small layer with fewer or smaller codebooks. Shapes follow from four widths of a
model's published configuration. Square layers (q, o) are hidden x hidden, k and v have the width of
the key-value heads, gate and up lead into the MLP and down out of it, with as many groups.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from quantcore.errors import SchemeError
from quantcore.weight import Scheme

DEFAULT = "SmolLM2 135M"  # the default model, here and in quantcore.sources
CODEBOOKS, BITS, GROUPS = range(1, 5), range(1, 11), (4, 8, 16)  # what `nearest` looks through


@dataclass(frozen=True)
class Widths:
    """A model's widths: of its hidden states, of keys and of values, of its MLP; and its blocks."""

    hidden: int
    key_value: int
    mlp: int
    blocks: int


MODELS: dict[str, Widths] = {
    DEFAULT: Widths(576, 192, 1536, 30),
    "SmolLM2 360M": Widths(960, 320, 2560, 32),
    "Llama 3.2 1B": Widths(2048, 512, 8192, 16),
    "Qwen 2.5 3B": Widths(2048, 256, 11008, 36),
    "Llama 3.2 3B": Widths(3072, 1024, 8192, 28),
    "Llama 3.1 8B": Widths(4096, 1024, 14336, 32),
    "Llama 3.1 70B": Widths(8192, 1024, 28672, 80),
}
LAYERS = {  # as named in the pages -> one projection that has the shape
    "q, o": "self_attn.q_proj",
    "k, v": "self_attn.k_proj",
    "gate, up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
COUNT = {"q, o": 2, "k, v": 2, "gate, up": 2, "down": 1}  # layers of the shape in a block


class Shape(NamedTuple):
    """Rows and inputs of a layer."""

    out: int
    columns: int


class Choice(NamedTuple):
    """A scheme for a small layer, and its rho over the one that was looked for."""

    scheme: Scheme
    rho: float
    ratio: float


def shape(model: str, layer: str) -> Shape:
    """The shape of a layer of a known model, both by their names here."""
    widths = MODELS[model]
    return {
        "q, o": Shape(widths.hidden, widths.hidden),
        "k, v": Shape(widths.key_value, widths.hidden),
        "gate, up": Shape(widths.mlp, widths.hidden),
        "down": Shape(widths.hidden, widths.mlp),
    }[layer]


def nearest(layer: Shape, rho: float, like: Scheme, count: int = 6) -> list[Choice]:
    """The schemes that fit the layer with rho nearest in ratio, the nearest first.

    Args:
        layer: The layer to find schemes for.
        rho: The ratio looked for, above 0.
        like: Of schemes equally near, those closest to this one's codebooks, then code bits, come
            first.
        count: At most so many.
    """
    found = [
        Choice(scheme, scheme.rho(*layer), scheme.rho(*layer) / rho)
        for scheme in (Scheme(*parts) for parts in product(CODEBOOKS, BITS, GROUPS))
        if _fits(scheme, layer)
    ]

    def far(choice: Choice) -> tuple[float, int, float, Scheme]:
        scheme, distance = choice.scheme, abs(math.log2(choice.ratio))
        books = abs(scheme.codebooks - like.codebooks)
        return round(distance, 6), books, abs(scheme.code_bits - like.code_bits), scheme

    return sorted(found, key=far)[:count]


def _fits(scheme: Scheme, layer: Shape) -> bool:
    try:
        scheme.check(*layer)
    except SchemeError:
        return False
    return True
