"""An experiment as a link, and as the command that repeats it.

    ?model=...&layer=...&scheme=2x8g8&seed=0&search=beam&beam=8&job=...

The query names what people change most, and any other setting only where it differs from its
default, so links stay short. A search's own default width is written out: a link and a command mean
the same run when that default has changed.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

from quantcore.errors import InputError
from quantcore.experiment import Experiment
from quantcore.search import SearchConfig
from quantcore.weight import Scheme

DEFAULT = Experiment()
SCHEME = re.compile(r"(\d+)x(\d+)g(\d+)")


class Setting(NamedTuple):
    """One field of an experiment: its name in a link, its flag in a command, its type."""

    query: str
    flag: str
    field: str
    kind: type


OPTIONAL = (
    Setting("sweeps", "--sweeps", "sweeps", int),
    Setting("tokens", "--calibration-tokens", "calibration_tokens", int),
    Setting("heldout", "--heldout-tokens", "heldout_tokens", int),
    Setting("window", "--window", "window", int),
    Setting("shrinkage", "--shrinkage", "shrinkage", float),
    Setting("damping", "--damping", "damping", float),
    Setting("windows", "--windows", "perplexity_windows", int),
    Setting("text", "--text", "text", str),
    Setting("device", "--device", "device", str),
)
IN_EVERY_COMMAND = {"sweeps", "device"}


@dataclass(frozen=True)
class Link:
    """What a link says.

    Attributes:
        experiment: The experiment, or None where the link names no layer.
        job: The job to attach to, if any.
    """

    experiment: Experiment | None
    job: str | None


def to_query(experiment: Experiment, job: str | None = None) -> str:
    """The query string of an experiment and its job."""
    values: dict[str, Any] = {
        "model": experiment.model,
        "layer": experiment.layer,
        "scheme": scheme_name(experiment.scheme),
        "seed": experiment.seeds[0],
        "seeds": len(experiment.seeds) if len(experiment.seeds) > 1 else None,
        "search": experiment.search,
        "beam": experiment.width,
        "inits": ",".join(experiment.inits) if experiment.inits != DEFAULT.inits else None,
    }
    values |= {
        setting.query: getattr(experiment, setting.field) for setting in _changed(experiment)
    }
    values["job"] = job
    return urlencode({name: value for name, value in values.items() if value is not None})


def from_query(query: Mapping[str, str]) -> Link:
    """What a link's parameters say; parameters of others are left alone.

    Raises:
        InputError: a value cannot be read, or makes an experiment that cannot be.
    """
    job = query.get("job") or None
    if not query.get("layer"):
        return Link(None, job)
    values: dict[str, Any] = {"model": query.get("model") or None, "layer": query["layer"]}
    if "scheme" in query:
        values["scheme"] = _scheme(query["scheme"])
    if "inits" in query:
        values["inits"] = tuple(query["inits"].split(","))
    values["search"] = query.get("search", DEFAULT.search)
    given = _number("beam", int, query["beam"]) if "beam" in query else None
    values["beam"] = SearchConfig(values["search"], given).kept
    values["seeds"] = consecutive(
        _number("seed", int, query.get("seed", "0")), _number("seeds", int, query.get("seeds", "1"))
    )
    for setting in OPTIONAL:
        if setting.query in query:
            text = query[setting.query]
            values[setting.field] = _number(setting.query, setting.kind, text)
    return Link(Experiment(**values), job)


def command(experiment: Experiment) -> str:
    """The command line that runs the same experiment."""
    scheme = experiment.scheme
    words: list[Any] = ["quantcore", "layer"]
    if experiment.model:
        words += ["--model", experiment.model]
    words += ["--layer", experiment.layer]
    words += ["--codebooks", scheme.codebooks, "--bits", scheme.bits, "--group", scheme.group]
    for init in experiment.inits:
        words += ["--init", init]
    words += ["--search", experiment.search, "--beam", experiment.width]
    words += ["--seed", experiment.seeds[0], "--seeds", len(experiment.seeds)]
    changed = _changed(experiment)
    for setting in OPTIONAL:
        if setting in changed or setting.field in IN_EVERY_COMMAND:
            words += [setting.flag, getattr(experiment, setting.field)]
    return shlex.join(str(word) for word in [*words, "--json", "result.json"])


def scheme_name(scheme: Scheme) -> str:
    """A scheme in one word, for links: 2x8g8."""
    return str(scheme).replace(" ", "")


def consecutive(first: int, count: int) -> tuple[int, ...]:
    """The seeds that a first seed and their number stand for."""
    if count < 1:
        raise InputError(f"the number of seeds must be at least 1, got {count}")
    return tuple(range(first, first + count))


def _changed(experiment: Experiment) -> list[Setting]:
    return [s for s in OPTIONAL if getattr(experiment, s.field) != getattr(DEFAULT, s.field)]


def _scheme(text: str) -> Scheme:
    found = SCHEME.fullmatch(text)
    if not found:
        raise InputError(f"the link's scheme must look like 2x8g8, got {text!r}")
    return Scheme(*(int(number) for number in found.groups()))


def _number(name: str, kind: type, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        word = "a whole number" if kind is int else "a number"
        raise InputError(f"the link's {name} must be {word}, got {text!r}") from None
