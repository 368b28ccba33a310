"""Additive quantization of language models: codebooks, their initialisation and their basins."""

from quantcore.errors import Cancelled, QuantcoreError
from quantcore.experiment import Experiment
from quantcore.layer import LayerConfig, LayerState, quantize
from quantcore.objective import LayerProblem, Regularisation
from quantcore.weight import PRESETS, AdditiveWeight, Scheme, preset

__all__ = [
    "PRESETS",
    "AdditiveWeight",
    "Cancelled",
    "Experiment",
    "LayerConfig",
    "LayerProblem",
    "LayerState",
    "QuantcoreError",
    "Regularisation",
    "Scheme",
    "preset",
    "quantize",
]
