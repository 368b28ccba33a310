"""What the studies of one layer share: options, the document of an interrupted run, the header."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from quantcore import files
from quantcore.commands import console
from quantcore.errors import InputError
from quantcore.experiment import Experiment
from quantcore.progress import Observe
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.weight import Scheme

MOST_SEEDS = 10_000


def experiment(
    layer: Annotated[
        str | None, typer.Option(help="A layer's name; `quantcore layers` lists them.")
    ] = None,
    model: console.Model = None,
    problem: Annotated[
        Path | None, typer.Option(help="A safetensors problem file, instead of a model.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The PREFIX of PREFIX.weight in --problem.")
    ] = None,
    bpp: console.PresetBits = None,
    codebooks: Annotated[
        int | None, typer.Option(help="Codebooks, 1 to 4, instead of --bpp.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Bits of one code, 1 to 16.")] = None,
    group: Annotated[int | None, typer.Option(help="Weights encoded together.")] = None,
    init: console.Inits = None,
    search: console.Search = Experiment.search,
    beam: console.Beam = Experiment.beam,
    sweeps: console.Sweeps = Experiment.sweeps,
    seed: Annotated[int, typer.Option(help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds, from the first one up.")] = 1,
    damping: console.Damping = 0.0,
    shrinkage: console.Shrinkage = 0.0,
    text: console.Text = Experiment.text,
    calibration_tokens: Annotated[
        int, typer.Option(help="Tokens for the calibration Hessian.")
    ] = Experiment.calibration_tokens,
    heldout_tokens: Annotated[
        int, typer.Option(help="Tokens for the held-out Hessian.")
    ] = Experiment.heldout_tokens,
    window: Annotated[int, typer.Option(help="Tokens in one window.")] = Experiment.window,
    device: console.Device = Experiment.device,
) -> Experiment:
    """The layer and the runs that the options name."""
    return Experiment(
        model=model,
        layer=_layer_name(layer, problem, name),
        problem=None if problem is None else str(problem),
        scheme=console.scheme(bpp, codebooks, bits, group),
        inits=tuple(dict.fromkeys(init)) if init else Experiment.inits,
        seeds=_seeds(seed, seeds),
        search=search,
        beam=beam,
        sweeps=sweeps,
        damping=damping,
        shrinkage=shrinkage,
        text=text,
        calibration_tokens=calibration_tokens,
        heldout_tokens=heldout_tokens,
        window=window,
        device=device,
    )


def with_experiment(
    **defaults: object,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command that takes the options of `experiment`, with other defaults, before its own.

    Its first argument is what they name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = inspect.signature(experiment).parameters
        own = list(inspect.signature(command).parameters.values())[1:]

        @wraps(command)
        def run(**given: Any) -> None:
            settings = {name: given.pop(name) for name in shared}
            command(experiment(**settings), **given)

        options = [
            option.replace(default=defaults.get(name, option.default))
            for name, option in shared.items()
        ]
        run.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
        return run

    return decorate


def run(study: ModuleType, config: Any, json_file: Path | None) -> tuple[Document, bool]:
    """A study's document, which is also written, and whether it is whole.

    Args:
        study: The module that has `KIND`, `begin` and `run`.
        config: What to run.
        json_file: Where an earlier document may be, and this one goes.
    """
    found = console.previous(json_file, lambda document: document.get("kind") == study.KIND)
    begun: Document = study.begin(config)
    if found is not None and found["key"] != begun["key"]:
        other = files.differing(_flat(found["config"]), _flat(begun["config"]))
        console.refuse_other(json_file, f"study of {study.KIND}", other)

    def work(observe: Observe) -> Document:
        made: Document = study.run(config, observe, found)
        return made

    document, whole = console.follow(work, found or begun)
    if json_file is not None:
        files.write_json(json_file, document)
    return document, whole


def finish(whole: bool, json_file: Path | None) -> None:
    """Say where a study's document is, and that it is not whole where it is not."""
    if json_file is not None:
        console.out.print(f"Written to {json_file}")
    if not whole:
        console.interrupted()


def show_layer(document: Document, settings: Mapping[str, Any]) -> None:
    """Which layer and how it was quantized, by the settings of an experiment."""
    for part in ("model", "text"):
        if document[part] is not None:
            console.out.print(document[part]["note"])
    scheme = Scheme(**document["scheme"])
    console.out.print(
        f"{document['layer']}, {document['shape'][0]} x {document['shape'][1]}, scheme {scheme}: "
        f"{document['bits_per_weight']:.3f} bits per weight, rho {document['rho']:.3g}",
        highlight=False,
    )
    width = SearchConfig(settings["search"], settings["beam"]).kept
    console.out.print(f"search {settings['search']}, beam {width}", highlight=False)


def number(value: float | None, digits: int) -> str:
    """A figure, where there is one."""
    return "-" if value is None else f"{value:.{digits}f}"


def _layer_name(layer: str | None, problem: Path | None, name: str | None) -> str:
    if problem is not None:
        if name is None or layer is not None:
            raise InputError("--problem takes --name PREFIX, and no --layer")
        return name
    if layer is None:
        raise InputError(
            "give --layer NAME (see `quantcore layers`), or --problem FILE --name PREFIX"
        )
    return layer


def _seeds(first: int, count: int) -> tuple[int, ...]:
    if count < 1:
        raise InputError(f"--seeds must be at least 1, got {count}")
    if count > MOST_SEEDS:
        raise InputError(f"--seeds must be at most {MOST_SEEDS}, got {count}")
    return tuple(range(first, first + count))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A study's settings, those of its experiment, where it has one, among them."""
    own = {name: value for name, value in config.items() if name != "experiment"}
    return {**config.get("experiment", {}), **own}
