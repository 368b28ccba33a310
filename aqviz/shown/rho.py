"""rho: what it orders, what it is for known layers, and the same regime in miniature."""

from dataclasses import dataclass
from html import escape
from typing import Any

from aqviz import bundle, commands, notebook, paper, permalink, recordings, shapes, theme
from aqviz.bundle import Bundles
from aqviz.core import Core
from aqviz.engine import Document
from aqviz.evidence import Gap, gaps
from aqviz.figures.regimes import draw_regimes, view_regimes
from aqviz.figures.rho import Reference, view_rho
from aqviz.figures.rho import draw_rho as draw_gaps
from aqviz.shapes import Choice, nearest, shape
from aqviz.shown.tables import Anchor, table
from aqviz.verdicts import SURVEY
from quantcore import survey
from quantcore.errors import InputError
from quantcore.experiment import Experiment
from quantcore.weight import Scheme

BLOCK = "model.layers.10"  # of the default model; its layers are the recorded ones


@dataclass(frozen=True)
class RhoState:
    """What the tab's link holds.

    Attributes:
        search: Whose gaps the figure shows.
        model: The model whose layer is looked at, of `shapes.MODELS`.
        layer: The layer, of `shapes.LAYERS`.
        codebooks: M of the scheme.
        bits: Of one code.
        group: Weights in a group.
        small: The default model's layer that stands in for it.
    """

    search: str = "beam"
    model: str = paper.LLAMA
    layer: str = "q, o"
    codebooks: int = 2
    bits: int = 8
    group: int = 8
    small: str = "q, o"

    def __post_init__(self) -> None:
        _one_of("search", self.search, theme.SEARCHES)
        _one_of("model", self.model, shapes.MODELS)
        _one_of("layer", self.layer, shapes.LAYERS)
        _one_of("small", self.small, shapes.LAYERS)
        _one_of("group", self.group, shapes.GROUPS)
        Scheme(self.codebooks, self.bits, self.group)  # checks itself

    @property
    def scheme(self) -> Scheme:
        """The scheme of the chosen layer."""
        return Scheme(self.codebooks, self.bits, self.group)

    @property
    def rho(self) -> float:
        """Of the chosen layer."""
        return self.scheme.rho(*shape(self.model, self.layer))

    def choices(self) -> list[Choice]:
        """Stand-ins on the small layer."""
        return nearest(shape(shapes.DEFAULT, self.small), self.rho, self.scheme)

    def experiment(self, scheme: Scheme) -> Experiment:
        """The race on the small layer with such a scheme."""
        layer = f"{BLOCK}.{shapes.LAYERS[self.small]}"
        return Experiment(layer=layer, scheme=scheme, search=self.search)


def recorded() -> Document | None:
    """The survey that the gaps are from."""
    return recordings.every(survey.KIND).get(SURVEY)


def show(state: RhoState, found: list[Gap], linked: bool = True) -> list[Any]:
    """The values of most outputs: figures as JSON, HTML, and the first stand-in's commands.

    Args:
        state: What is asked for.
        found: The gaps that were measured.
        linked: Whether stand-ins link to their races, which run.
    """
    choices = state.choices()
    mine = [gap for gap in found if gap.case.search == state.search]
    small = f"{shapes.DEFAULT}: {state.small}"
    ruler = view_regimes(state.scheme, state.model, state.layer, small, choices)
    race = state.experiment(choices[0].scheme)
    return [
        theme.to_json(draw_gaps(view_rho(mine, references())), state.search),
        sums(state),
        theme.to_json(draw_regimes(ruler), str(state.scheme)),
        layer_table(state),
        miniature(state, choices, linked),
        commands.of(race),
        notebook.python(race),
    ]


def bundles(core: Core, state: RhoState) -> Bundles:
    """What the view's zip holds.

    Raises:
        AbsentError: nothing is known of it yet.
    """
    document = bundle.there(recorded())
    marks, _, ruler, *_ = show(state, gaps(document))
    drawn = bundle.drawn({"rho": marks, "rho_regimes": ruler})
    config = recordings.config_of(survey.KIND, document["config"])
    return {"": bundle.of_study(config, document, drawn, bundle.alts(drawn))}


def references() -> list[Reference]:
    """The paper's pairs at beam 8 and 100 epochs, at the rho of their square layers."""
    return [
        Reference(
            Scheme(one.bits, 8, 8).rho(*shape(one.model, "q, o")),
            one.before.wiki / other.before.wiki,
            f"{one.family}, {one.bits} bits",
        )
        for one, other in paper.pairs(lambda run: (run.beam, run.epochs) == (8, 100))
    ]


def sums(state: RhoState) -> str:
    """N, K, M and rho of the chosen layer, worked out."""
    (out, columns), scheme = shape(state.model, state.layer), state.scheme
    groups, many = scheme.groups(out, columns), scheme.size**scheme.codebooks
    lines = (
        ("N, groups", f"{out:,} × {columns:,} / {scheme.group}", f"{groups:,}"),
        ("K, words in a codebook", f"2^{scheme.bits}", f"{scheme.size:,}"),
        ("K^M, sums", f"{scheme.size:,}^{scheme.codebooks}", f"{many:,}"),
        ("ρ", "N / K^M", f"{state.rho:.3g}"),
    )
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd class='note'>{made}</dd></div>"
        for name, made, value in lines
    )
    side = "more groups than sums" if state.rho > 1 else "no more groups than sums"
    return (
        f'<dl class="facts four">{cells}</dl>'
        f'<p class="note">{escape(state.model)}, {escape(state.layer)} at {scheme}: {side}.</p>'
    )


def layer_table(state: RhoState) -> str:
    """The chosen scheme on every kind of layer, of the chosen model and of the default one."""
    rows = []
    for model in dict.fromkeys((state.model, shapes.DEFAULT)):
        blocks = shapes.MODELS[model].blocks
        for layer, count in shapes.COUNT.items():
            size = shape(model, layer)
            rows.append(
                (
                    *(f"{model}: {layer}", count * blocks, f"{size.out} × {size.columns}"),
                    *(state.scheme.groups(*size), float(f"{state.scheme.rho(*size):.4g}")),
                    *(state.scheme.code_bits, round(state.scheme.bits_per_weight(*size), 3)),
                )
            )
    columns = ("layer", "how many", "shape", "N", "ρ", "bits of codes", "bits with codebooks")
    return table(f"ρ and bits a weight at {state.scheme}", columns, rows)


def miniature(state: RhoState, choices: list[Choice], linked: bool = True) -> str:
    """The stand-ins with links to their races."""
    size = shape(shapes.DEFAULT, state.small)
    rows = [
        (
            *(str(choice.scheme), float(f"{choice.rho:.4g}"), float(f"{choice.ratio:.3g}")),
            *(choice.scheme.code_bits, round(choice.scheme.bits_per_weight(*size), 3)),
            *((_race(state.experiment(choice.scheme)),) if linked else ()),
        )
        for choice in choices
    ]
    columns = (
        "scheme",
        "ρ",
        "over the ρ looked for",
        "bits of codes",
        "bits with codebooks",
        *(("race",) if linked else ()),
    )
    caption = (
        f"Schemes for {shapes.DEFAULT}, {state.small} ({size.out} × {size.columns}) nearest to "
        f"ρ {state.rho:.3g} of {state.model}, {state.layer}"
    )
    return table(caption, columns, rows)


def picked_case(search: str, data: dict[str, Any]) -> str:
    """The clicked mark in words, with the link to its race; what is no mark of ours says so."""
    if not data.get("customdata"):
        return '<p class="note">This is the paper\'s; there is no layer of ours to run.</p>'
    layer, scheme, _ = data["customdata"]
    race = _race(Experiment(layer=layer, scheme=Scheme.parse(scheme), search=search))
    return (
        f'<p class="note">{escape(layer)} at {escape(scheme)}, ρ {data["x"]:.3g}: '
        f'<a href="{escape(race.address)}">{escape(race.words)}</a></p>'
    )


def _race(experiment: Experiment) -> Anchor:
    return Anchor(f"Race at {experiment.scheme}", f"?{permalink.to_query(experiment)}")


def _one_of(name: str, value: Any, known: Any) -> None:
    if value not in known:
        listed = ", ".join(map(str, known))
        raise InputError(f"the {name} must be one of {listed}; got {value!r}")
