"""Documents of the studies of basins, small and worked by hand."""

from aqviz.shown.basins import Basins

PHASES = (("init", 0, 0.08), ("refit", 1, 0.02), ("feedback", 1, 0.01))
A = ((0.0, 4.0), (0.0, 1.0), (0.0, 0.0))
B = ((3.0, 2.0), (2.5, 0.5), (2.0, 0.0))


def trajectory(init: str, places) -> dict:
    return {
        "init": init,
        "seed": 0,
        "complete": True,
        "phases": [
            {
                "phase": phase,
                "sweep": sweep,
                "relative_error": error,
                "heldout_relative_error": 1.5 * error,
                "seconds": 1.0,
                "changed": None if phase == "init" else 0.25,
                "coordinates": list(place),
                "off_plane": 0.5,
            }
            for (phase, sweep, error), place in zip(PHASES, places, strict=True)
        ],
    }


def curve(errors) -> dict:
    return {"calibration": list(errors), "heldout": [2 * error for error in errors]}


def landscape() -> dict:
    rows = [[0.01, 0.02, 0.05], [0.1, 0.2, 0.5]]
    config = Basins().landscape
    grid = {"calibration": rows, "heldout": [[2 * e for e in row] for row in rows]}
    line = curve([0.01, 0.03, 0.02])
    return {
        "kind": "landscape",
        "key": config.key(),
        "layer": config.experiment.layer,
        "shape": [96, 64],
        "complete": True,
        "trajectories": {"A": trajectory("greedy", A), "B": trajectory("oa-em", B)},
        "rows": 48,
        "plane": {
            "a": [0.0, 1.0, 2.0],
            "b": [0.0, 4.0],
            "errors": dict.fromkeys(("reassigned", "fixed_a", "fixed_b"), grid),
            "explained": {"A": 0.75, "B": 0.5},
        },
        "line": {
            "positions": [0.0, 0.5, 1.0],
            "errors": dict.fromkeys(("reassigned", "fixed_a", "fixed_b"), line),
            "barrier": {
                codes: {"calibration": 0.5, "heldout": -0.01}
                for codes in ("reassigned", "fixed_a", "fixed_b")
            },
        },
        "date": "2026-09-01T10:00:00+00:00",
    }


def starts() -> dict:
    entries = [
        {
            "init": init,
            "seed": seed,
            "noise": noise,
            "init_relative_error": first,
            "init_heldout_relative_error": first,
            "relative_error": last,
            "heldout_relative_error": 2 * last,
            "seconds": 1.0,
        }
        for init, seed, noise, first, last in (
            ("greedy", 0, 0.0, 0.09, 0.011),
            ("greedy", 0, 0.2, 0.12, 0.012),
            ("oa-em", 0, 0.0, 0.02, 0.010),
        )
    ]
    few = {"runs": 3, "spearman": None, "low": None, "high": None, "why": "fewer than 4 runs"}
    known = {"runs": 8, "spearman": -0.25, "low": -0.9, "high": 0.7, "why": None}
    found = {"overall": known, "within": {"greedy": few}}
    return {
        "kind": "starts",
        "key": "k",
        "starts": entries,
        "correlation": {"calibration": found, "heldout": found},
    }
