"""Surveys as quantcore.survey makes them of a config, with invented numbers and whole traces."""

import json
import math
from dataclasses import asdict

from documents import PROJECTIONS, SHAPE

from quantcore.blocks import LayerInfo
from quantcore.grid import Survey
from quantcore.search import SearchConfig
from quantcore.weight import Scheme

START = {"greedy": 0.095, "oa-em": 0.016, "oa-em-adam": 0.017}
END = {"greedy": 0.0087, "oa-em": 0.0086, "oa-em-adam": 0.0085}


def layers(blocks: int = 30) -> dict[str, LayerInfo]:
    """The layers of a model of the default one's shape."""
    names = [
        (f"model.layers.{b}.{p}", b, p, *s) for b in range(blocks) for p, s in PROJECTIONS.items()
    ]
    return {name: LayerInfo(name, *rest) for name, *rest in names}


def survey(config: Survey, infos: dict[str, LayerInfo] | None = None) -> dict:
    """A finished survey; unknown layers have a shape of their own."""
    infos = layers() if infos is None else infos
    names = config.layers or tuple(infos)
    known = {name: infos.get(name) or LayerInfo(name, 0, name, *SHAPE) for name in names}
    return {
        "kind": "survey",
        "key": config.key(),
        "config": json.loads(json.dumps(asdict(config))),
        "model": {"kind": "packaged", "name": "tiny", "note": "Invented."},
        "text": {"spec": "default", "note": "Invented.", "sha256": "0"},
        "heldout_text": {"spec": "default", "note": "Invented.", "sha256": "0"},
        "layers": {name: facts(info, config.schemes) for name, info in known.items()},
        "runs": [
            run(cell, known[cell.layer], config.sweeps)
            for name in names
            for cell in config.cells(name, config.schemes)
        ],
        "refused": [],
        "versions": {"aqviz": "0"},
        "machine": {"cpu": "a test", "cores": 2},
        "date": "2026-11-22T10:00:00+00:00",
    }


def facts(info: LayerInfo, schemes) -> dict:
    """Kurtosis rises with the block, the blocks' share of H falls."""
    groups = {str(scheme.group) for scheme in schemes}
    wave = 1 + 0.2 * math.sin(len(info.projection) + 0.7 * info.block)
    return {
        "block": info.block,
        "projection": info.projection,
        "shape": [info.out, info.columns],
        "kurtosis": (3.0 + 0.1 * info.block) * wave,
        "row_norm_cv": 0.1 * wave,
        "outlier_share": 0.2 / wave,
        "block_share": dict.fromkeys(groups, 0.6 * wave / (1 + 0.02 * info.block)),
        "block_condition": dict.fromkeys(groups, 40.0 * wave),
    }


def run(cell, info: LayerInfo, sweeps: int) -> dict:
    """One finished run: better and slower with each sweep and a wider beam."""
    scheme = Scheme.parse(cell.scheme)
    wave = 1 + 0.05 * math.sin(len(info.projection) + info.block) * (cell.init == "greedy")
    noise = 1 + 0.003 * cell.seed
    size = 1.2 if cell.search == "beam" else 1.0
    start = START[cell.init] * wave * noise
    end = END[cell.init] * wave * noise * size * (1 - 0.02 * math.log2(cell.beam))
    trace, seconds = [_entry("init", 0, start, 0.4)], 0.4
    for sweep in range(1, sweeps + 1):
        error = end * (1 + 0.25 * 2.0 ** (1 - sweep))
        for phase in ("refit", *SearchConfig(cell.search).steps(sweep)):
            seconds += {"refit": 0.1}.get(phase, 0.2 * cell.beam)
            trace.append(_entry(phase, sweep, error, seconds))
    seconds += 0.1
    trace.append(_entry("refit", sweeps + 1, end, seconds))
    return {
        **cell._asdict(),
        "rho": scheme.rho(info.out, info.columns),
        "bits_per_weight": scheme.bits_per_weight(info.out, info.columns),
        "complete": True,
        **{f"init_{name}": value for name, value in _errors(start).items()},
        **_errors(end),
        "seconds": {"init": 0.4, "refit": 0.0, "search": 0.0, "total": seconds},
        "trace": trace,
        "used": [scheme.size] * scheme.codebooks,
    }


def _entry(phase: str, sweep: int, heldout: float, seconds: float) -> dict:
    return {"phase": phase, "sweep": sweep, **_errors(heldout), "seconds": seconds}


def _errors(heldout: float) -> dict:
    relative = heldout / 1.07
    return {
        "error": 2.5 * relative,
        "relative_error": relative,
        "heldout_relative_error": heldout,
    }
