"""What the controls say, as plain values, and the experiment they stand for."""

from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from aqviz import permalink
from quantcore.blocks import LayerInfo
from quantcore.errors import InputError, SourceError, as_name, quoted
from quantcore.experiment import Experiment
from quantcore.weight import PRESETS, Scheme, preset

OWN = "own"  # the choice of bits that opens codebooks, bits and group


class Form(NamedTuple):
    """The value of every control, in the page's order."""

    model: str | None
    upload: str | None  # the name of a kept file, instead of a model
    block: str | None
    projection: str | None
    preset: str
    codebooks: int | float | None
    bits: int | float | None
    group: int | float | None
    inits: list[str]
    search: str | None
    beam: int | float | None
    sweeps: int | float | None
    seed: int | float | None
    seeds: int | float | None
    device: str
    text: str | None
    tokens: int | float | None
    shrinkage: int | float | None
    damping: int | float | None
    windows: int | float | None

    def checked(self) -> "Form":
        """The same; the page gives no other types, but whoever writes to it may.

        Raises:
            InputError: a value is of a type that its control cannot give.
        """
        try:
            _READER.validate_python(tuple(self), strict=True)
        except ValidationError as error:
            control = Form._fields[int(error.errors()[0]["loc"][0])]
            raise InputError(f"the {control} is of a type that it cannot be") from None
        return self

    def scheme(self) -> Scheme:
        """The preset's scheme, or the one spelled out."""
        if self.preset != OWN:
            return preset(_real("bits of codes", self.preset))
        return Scheme(
            _whole("codebooks", self.codebooks),
            _whole("bits of a code", self.bits),
            _whole("group size", self.group),
        )

    def layer(self, layers: dict[str, LayerInfo]) -> LayerInfo:
        """The layer that block and projection name."""
        for info in layers.values():
            if str(info.block) == self.block and info.projection == self.projection:
                return info
        block, layer = (as_name(str(one)) for one in (self.block, self.projection))
        raise SourceError(f"block {block} has no layer {layer}; choose another one")

    def experiment(self, layers: dict[str, LayerInfo]) -> Experiment:
        """The experiment, checked against its layer.

        Raises:
            InputError: a value is missing or cannot be.
        """
        layer = self.layer(layers)
        scheme = self.scheme()
        scheme.check(layer.out, layer.columns)
        if not self.inits:
            raise InputError("no initialiser is chosen; choose at least one")
        if not self.search:
            raise InputError("no search is chosen; choose one")
        return Experiment(
            **self.source(),
            layer=layer.name,
            scheme=scheme,
            inits=tuple(self.inits),
            seeds=permalink.consecutive(
                _whole("seed", self.seed), _whole("number of seeds", self.seeds)
            ),
            search=self.search,
            beam=_whole("beam width", self.beam),
            sweeps=_whole("number of sweeps", self.sweeps),
            device=self.device,
            shrinkage=_real("shrinkage", self.shrinkage),
            damping=_real("damping", self.damping),
        )

    def source(self) -> dict[str, Any]:
        """Where weight and Hessians are from; a file brings them, so no text is read."""
        if self.upload:
            return {"problem": self.upload}
        return {
            "model": self.model or None,
            "text": self.text or "default",
            "calibration_tokens": _whole("number of calibration tokens", self.tokens),
            "perplexity_windows": _whole("number of perplexity windows", self.windows),
        }

    @classmethod
    def of(cls, experiment: Experiment, layers: dict[str, LayerInfo]) -> "Form":
        """The form that gives this experiment."""
        scheme = experiment.scheme
        layer = layers.get(experiment.layer)
        return cls(
            model=experiment.model or "",
            upload=experiment.problem or "",
            block=str(layer.block) if layer else None,
            projection=layer.projection if layer else None,
            preset=preset_of(scheme),
            codebooks=scheme.codebooks,
            bits=scheme.bits,
            group=scheme.group,
            inits=list(experiment.inits),
            search=experiment.search,
            beam=experiment.width,
            sweeps=experiment.sweeps,
            seed=experiment.seeds[0],
            seeds=len(experiment.seeds),
            device=experiment.device,
            text=experiment.text,
            tokens=experiment.calibration_tokens,
            shrinkage=experiment.shrinkage,
            damping=experiment.damping,
            windows=experiment.perplexity_windows,
        )


_READER = TypeAdapter(Form)


def preset_of(scheme: Scheme) -> str:
    """The choice of bits that stands for a scheme."""
    return next((f"{bits:g}" for bits, known in PRESETS.items() if known == scheme), OWN)


def blocks_of(layers: dict[str, LayerInfo]) -> list[str]:
    """The blocks of a model, as the dropdown offers them."""
    return list(dict.fromkeys(str(info.block) for info in layers.values()))


def projections_of(layers: dict[str, LayerInfo], block: str | None) -> list[str]:
    """The linear layers of one block."""
    return [info.projection for info in layers.values() if str(info.block) == block]


def _real(name: str, value: int | float | str | None) -> float:
    if value is None:
        raise InputError(f"the {name} is empty; enter a number")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"the {name} must be a number, got {quoted(value)}") from None


def _whole(name: str, value: int | float | None) -> int:
    number = _real(name, value)
    if not number.is_integer():
        raise InputError(f"the {name} must be a whole number, got {number:g}")
    return int(number)
