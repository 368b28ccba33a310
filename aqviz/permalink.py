"""A view as a link, and a link as a view.

    ?v=1&view=race&model=...&layer=...&scheme=2x8g8&seed=0&search=beam&beam=8&job=...
    ?v=1&view=race&problem=upload-0123456789abcdef&layer=...

`v` is the version of this form. The state of a view is a frozen dataclass; `encode` names the
fields that differ from their defaults, `decode` reads them back, and the dataclass refuses what
cannot be, exactly as it does for a control. The race is an experiment: its query names what people
change most, and any other setting only where it differs from its default. A search's own default
width is written out: a link and a command mean the same run when that default has changed.
"""

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from aqviz import uploads
from quantcore.errors import InputError, quoted
from quantcore.experiment import Experiment
from quantcore.search import SearchConfig
from quantcore.weight import Scheme

VERSION = 1
RACE = "race"
DEFAULT = Experiment()
MOST_LETTERS = 2000  # of one value; a model may be named by its path, a prompt is sentences
MAX_SEEDS = 5  # of one run, so that a link cannot ask for a week of work
TRUE, FALSE = "1", "0"
State = TypeVar("State")


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


@dataclass(frozen=True)
class Link:
    """What a link to the race says.

    Attributes:
        experiment: The experiment, or None where the link names no layer.
        job: The job to attach to, if any.
    """

    experiment: Experiment | None
    job: str | None


def encode(view: str, state: Any) -> str:
    """The query string of a view in this state."""
    values = {"v": VERSION, "view": view}
    for field in fields(state):
        value = getattr(state, field.name)
        if value != field.default:
            values[field.name] = _written(value)
    return urlencode(values)


def decode(kind: type[State], query: Mapping[str, str]) -> State:
    """The state that a link's parameters stand for; parameters of others are left alone.

    Raises:
        InputError: a value cannot be read, or makes a state that cannot be.
    """
    _check(query)
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    values = {name: _read(name, hints[name], query[name]) for name in names if name in query}
    return kind(**values)


def from_values(kind: type[State], values: tuple[Any, ...]) -> State:
    """The state that the values of controls stand for, in the order of its fields.

    Raises:
        InputError: a value is missing or cannot be.
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    given = zip(names, values, strict=True)
    return kind(**{name: _given(name, hints[name], value) for name, value in given})


def to_query(experiment: Experiment, job: str | None = None) -> str:
    """The query string of an experiment and its job."""
    values: dict[str, Any] = {
        "v": VERSION,
        "view": RACE,
        "model": experiment.model,
        "problem": experiment.problem,
        "layer": experiment.layer,
        "scheme": scheme_name(experiment.scheme),
        "seed": experiment.seeds[0],
        "seeds": len(experiment.seeds) if len(experiment.seeds) > 1 else None,
        "search": experiment.search,
        "beam": experiment.width,
        "inits": ",".join(experiment.inits) if experiment.inits != DEFAULT.inits else None,
    }
    values |= {setting.query: getattr(experiment, setting.field) for setting in changed(experiment)}
    values["job"] = job
    return urlencode({name: value for name, value in values.items() if value is not None})


def from_query(query: Mapping[str, str]) -> Link:
    """What the parameters of a link to the race say; parameters of others are left alone.

    Raises:
        InputError: a value cannot be read, or makes an experiment that cannot be.
    """
    _check(query)
    job = query.get("job") or None
    problem = uploads.checked(query["problem"]) if "problem" in query else None
    if not query.get("layer"):
        return Link(None, job)
    values: dict[str, Any] = {"layer": query["layer"], "problem": problem}
    if not problem:
        values["model"] = query.get("model") or None
    if "scheme" in query:
        values["scheme"] = Scheme.parse(query["scheme"])
    if "inits" in query:
        values["inits"] = tuple(query["inits"].split(","))
    values["search"] = query.get("search", DEFAULT.search)
    given = _read("beam", int, query["beam"]) if "beam" in query else None
    values["beam"] = SearchConfig(values["search"], given).kept
    values["seeds"] = consecutive(
        _read("seed", int, query.get("seed", "0")), _read("seeds", int, query.get("seeds", "1"))
    )
    for setting in OPTIONAL:
        if setting.query in query:
            values[setting.field] = _read(setting.query, setting.kind, query[setting.query])
    return Link(Experiment(**values), job)


def scheme_name(scheme: Scheme) -> str:
    """A scheme in one word, for links: 2x8g8."""
    return str(scheme).replace(" ", "")


def consecutive(first: int, count: int) -> tuple[int, ...]:
    """The seeds that a first seed and their number stand for."""
    if not 1 <= count <= MAX_SEEDS:
        raise InputError(f"the number of seeds must be 1 to {MAX_SEEDS}, got {count}")
    return tuple(range(first, first + count))


def changed(experiment: Experiment) -> list[Setting]:
    """The settings that differ from their defaults."""
    return [s for s in OPTIONAL if getattr(experiment, s.field) != getattr(DEFAULT, s.field)]


def _check(query: Mapping[str, str]) -> None:
    """Refuse links of another version, and words that nobody means."""
    for name, words in query.items():
        _check_words(f"the link's {quoted(name)}", words)
    found = query.get("v", str(VERSION))
    if found != str(VERSION):
        raise InputError(
            f"this link is of version {quoted(found)} and this program reads version {VERSION}; "
            "choose in the page what the link showed"
        )


def _check_words(what: str, words: str) -> None:
    if len(words) > MOST_LETTERS:
        raise InputError(f"{what} must have at most {MOST_LETTERS} letters, got {len(words)}")
    if any("\ud800" <= letter <= "\udfff" for letter in words):  # halves of letters
        raise InputError(f"{what} is no text: {quoted(words)}")


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return TRUE if value else FALSE
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _read(name: str, hint: Any, text: str) -> Any:
    """A field's value from a link."""
    hint = _plain(hint)
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return tuple(_read(name, kind, part) for part in text.split(",")) if text else ()
    if hint is bool:
        if text not in {TRUE, FALSE}:
            raise InputError(f"the link's {name} must be 0 or 1, got {quoted(text)}")
        return text == TRUE
    if hint is str:
        return text
    try:
        value = hint(text)
    except ValueError:
        value = math.nan
    if not -math.inf < value < math.inf:  # whole numbers may be beyond any float
        word = "a whole number" if hint is int else "a number"
        raise InputError(f"the link's {name} must be {word}, got {quoted(text)}")
    return value


def _given(name: str, hint: Any, value: Any) -> Any:
    """A field's value from a control: numbers come as int or float, several as a list."""
    words = name.replace("_", " ")
    if value is None:
        if types.NoneType in typing.get_args(hint):
            return None
        raise InputError(f"the {words} is empty; enter a value")
    hint = _plain(hint)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"the {words} must be several, got {quoted(value)}")
        return tuple(_given(name, typing.get_args(hint)[0], one) for one in value)
    if hint is str:
        _check_words(f"the {words}", str(value))
    if hint is int and not (isinstance(value, (int, float)) and _is_whole(value)):
        raise InputError(f"the {words} must be a whole number, got {quoted(value)}")
    try:
        return hint(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"the {words} must be a number, got {quoted(value)}") from None


def _is_whole(value: int | float) -> bool:
    return isinstance(value, int) or value.is_integer()


def _plain(hint: Any) -> Any:
    """A type without its None."""
    if types.NoneType not in typing.get_args(hint):
        return hint
    return next(one for one in typing.get_args(hint) if one is not types.NoneType)
