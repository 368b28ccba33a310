"""The studies that are recorded: what the pages of many layers, searches and tuning show first.

A page's state makes a study, and the study's key finds its recording. So the settings stand
here once: `aqviz.record` runs them, and the pages' default states make the same.
"""

from quantcore.grid import Survey
from quantcore.init import INITIALISERS
from quantcore.trial import Trial
from quantcore.weight import Scheme

SEEDS = (0, 1, 2)
LAYER = "model.layers.10.self_attn.q_proj"
BOTH = ("feedback-descent", "beam")

MAP = Survey(sweeps=1)
"""Every layer of the default model, from greedy and OA-EM, one seed and one sweep each."""

FRONTIER = Survey(
    layers=(LAYER,), inits=INITIALISERS, searches=BOTH, beams=(1, 2, 4, 8, 16), seeds=SEEDS
)
"""One layer, from every initialiser, through both searches at every width."""

RHO = Survey(
    layers=(
        LAYER,
        "model.layers.10.self_attn.k_proj",
        "model.layers.10.mlp.up_proj",
        "model.layers.10.mlp.down_proj",
    ),
    schemes=tuple(map(Scheme.parse, ("1x8g8", "2x4g8", "2x5g8", "2x6g8", "2x8g8", "3x8g8"))),
    searches=BOTH,
    seeds=SEEDS,
)
"""One layer of each shape, with schemes whose rho goes from below 1 to far above it."""

DIALS = Survey(
    layers=(LAYER, "model.layers.10.mlp.down_proj"),
    searches=("beam",),
    beams=(1, 8),
    calibration_tokens=(2048, 8192),
    shrinkages=(0.0, 0.2),
    seeds=SEEDS,
)
"""Two layers under the released search: its width, the amount of text, shrinkage."""

TRIAL = Trial(scheme=Scheme.parse("1x8g8"))
"""One block of the default model at 1 bit, where there is much to make up for."""

RECORDED = {"map": MAP, "frontier": FRONTIER, "rho": RHO, "dials": DIALS}
