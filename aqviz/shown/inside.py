"""Inside a weight: a layer opened group by group, its bytes, and a product by look-up."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from html import escape
from typing import Any, NamedTuple

from aqviz import bundle, commands, inside, notebook, permalink, theme
from aqviz.bundle import Bundles
from aqviz.core import Core
from aqviz.engine import Document
from aqviz.figures.inside_bytes import draw_bytes, view_bytes
from aqviz.figures.inside_counts import draw_counts, view_counts
from aqviz.figures.inside_group import GroupView, draw_group, view_group
from aqviz.figures.inside_map import draw_map, view_map
from aqviz.figures.inside_tables import draw_tables, view_tables
from aqviz.inside import Example
from aqviz.recordings import experiment_of
from aqviz.shown import inside_numbers, panels
from quantcore.errors import InputError, SourceError
from quantcore.ledger import plan
from quantcore.weight import Scheme

RECORDED = "Back to the recorded layer"
KEPT = 256  # drawings of an example: a step of Play changes one of five, the same for everyone
PYTHON = """from quantcore import results
{run}  # its weights are kept
weight = results.load_weight(results.weight_path(config.key(), {init!r}, seed={seed}))
print(weight.codes[{row}, {group}], weight.dense()[{row}, {first}:{last}])"""


@dataclass(frozen=True)
class Inside:
    """What is open.

    Attributes:
        init: Whose weight.
        row: A row of it.
        group: A group of that row.
        scheme: The scheme whose bytes and counts are shown.
        step: The group that the product by look-up has come to.
        run: The key of a finished comparison; empty is the recorded one.
    """

    init: str = "oa-em"
    row: int = 74  # where the weights' error and the output's disagree
    group: int = 28
    scheme: str = "2x8g8"
    step: int = 0
    run: str = ""

    def __post_init__(self) -> None:
        for name in ("row", "group", "step"):
            if getattr(self, name) < 0:
                raise InputError(f"the {name} must be at least 0, got {getattr(self, name)}")
        Scheme.parse(self.scheme)
        if self.run:
            inside.place(self.run)  # checks it

    @classmethod
    def first_of(cls, document: Document) -> "Inside":
        """The first group of a finished comparison."""
        config = experiment_of(document["config"])
        scheme = permalink.scheme_name(config.scheme)
        return cls(config.inits[-1], row=0, group=0, scheme=scheme, run=document["key"])


def _once(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draws the same of an example once, as long as that is at hand."""

    @wraps(draw)
    def drawn(example: Example, *which: Any) -> Any:
        key = (draw, *which)
        if key not in example.drawings:
            if len(example.drawings) >= KEPT:
                example.drawings.clear()
            example.drawings[key] = draw(example, *which)
        return example.drawings[key]

    return drawn


class Shown(NamedTuple):
    """The value of every output, in the page's order; figures as JSON."""

    about: str
    kept: str
    map: str
    group: str
    bits: str
    numbers: str
    bytes: str
    tables: str
    counts: str
    command: str
    python: str
    files: str


def show(example: Example, state: Inside) -> Shown:
    """The outputs of a state.

    Raises:
        InputError: the example has no such initialiser, row or group, or the scheme does not fit.
    """
    _check(example, state)
    init, row, group = state.init, state.row, state.group
    view, drawn = _group(example, row, group)
    return Shown(
        about=about(example),
        kept=kept(example, state.run),
        map=_map(example, init, row, group),
        group=drawn,
        bits=inside_numbers.stored_bits(view),
        numbers=inside_numbers.numbers(view, init),
        bytes=_bytes(example, state.scheme),
        tables=_tables(example, init, row, state.step),
        counts=_counts(example, state.scheme),
        command=command(example),
        python=_python(example, state),
        files=panels.downloads(permalink.encode("inside", state)),
    )


def bundles(core: Core, state: Inside) -> Bundles:
    """What the view's zip holds.

    Raises:
        AbsentError: nothing of the comparison is kept here.
    """
    try:
        example = inside.find(state.run)
    except SourceError as error:
        raise bundle.AbsentError(str(error)) from None
    shown, row, group = show(example, state), state.row, state.group
    names = ("map", "group", "bytes", "tables", "counts")
    drawn = bundle.drawn({f"inside_{name}": getattr(shown, name) for name in names})
    view, _ = _group(example, row, group)
    return {
        "": bundle.Bundle(
            told=view.alt,
            config={"config": example.facts["config"], "view": asdict(state)},
            figures=drawn,
            tables={"metrics": inside_numbers.table(view)},
            command=command(example),
            document=example.facts,
            notebook=notebook.of_group(view.alt, row, group),
            more={inside.PATH.name: inside.place(state.run).read_bytes()},
        )
    }


def command(example: Example) -> str:
    """The command that makes the weights again."""
    return commands.of(experiment_of(example.facts["config"]))


def about(example: Example) -> str:
    """The layer, how it was quantized and what that cost."""
    facts, layer = example.facts, example.layer
    config = experiment_of(facts["config"])
    losses = ", ".join(
        f"{theme.style(init).label} {100 * loss:#.3g} %" for init, loss in facts["errors"].items()
    )
    words = (
        f"{layer.name} · {layer.out} × {layer.columns} · {config.scheme} · "
        f"{theme.SEARCHES[config.search]} · error of the whole layer: {losses}"
    )
    return f'<p class="about">{escape(words)}</p>'


def kept(example: Example, run: str = "") -> str:
    """What is kept of the layer, and where it is from."""
    facts = example.facts
    inputs = "inputs drawn with the mean squares that its Hessian has"
    if facts["token"] is not None:
        inputs = (
            f"the inputs of one token of other text: “… {escape(facts['context'])}"
            f"<b>{escape(facts['token'])}</b>”"
        )
    back = f' <a href="?v=1&amp;view=inside">{RECORDED}</a>' if run else ""
    return (
        f'<p class="note">Rows 0 to {example.rows - 1} of the layer’s {example.layer.out} are kept '
        f"here, and {inputs}. {panels.provenance(facts)}{back}</p>"
    )


def _check(example: Example, state: Inside) -> None:
    if state.init not in example.versions:
        known = " or ".join(example.versions)
        raise InputError(f"the initialiser must be {known} here, got {state.init!r}")
    for name, count in (("row", example.rows), ("group", example.groups), ("step", example.groups)):
        given = getattr(state, name)
        if given >= count:
            raise InputError(f"the {name} must be 0 to {count - 1} here, got {given}")


@_once
def _map(example: Example, init: str, row: int, group: int) -> str:
    total = example.totals[init][row].item()
    return theme.to_json(draw_map(view_map(example.errors(init), init, total, row, group)), "map")


@_once
def _group(example: Example, row: int, group: int) -> tuple[GroupView, str]:
    view = view_group(example.weight, example.blocks[group], example.versions, row, group)
    return view, theme.to_json(draw_group(view), f"{row} {group}")


@_once
def _bytes(example: Example, scheme: str) -> str:
    chosen, model = Scheme.parse(scheme), example.model
    view = view_bytes(chosen, example.layer, model, plan(model, chosen))
    return theme.to_json(draw_bytes(view), "bytes")


@_once
def _counts(example: Example, scheme: str) -> str:
    view = view_counts(Scheme.parse(scheme), example.layer.out, example.layer.columns)
    return theme.to_json(draw_counts(view), scheme)


@_once
def _tables(example: Example, init: str, row: int, step: int) -> str:
    weight = example.versions[init]
    view = view_tables(example.weight[row], example.inputs, weight, init, row, step)
    return theme.to_json(draw_tables(view), f"{init} {row}")


def _python(example: Example, state: Inside) -> str:
    size, config = example.blocks.shape[1], experiment_of(example.facts["config"])
    return PYTHON.format(
        run=notebook.python(config),
        seed=config.seeds[0],
        init=state.init,
        row=state.row,
        group=state.group,
        first=state.group * size,
        last=(state.group + 1) * size,
    )
