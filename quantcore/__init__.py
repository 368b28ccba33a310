"""Additive quantization of language models: codebooks, their initialisation and their basins."""

import os

# Before torch starts its threads: those that wait for work would spin, on the cores that the
# compiled loops run on, which makes these up to four times slower. Whoever sets it decides.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

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
