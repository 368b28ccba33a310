"""`quantcore quantize`: a whole model into a folder; with --plan, what that would mean."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quantcore import ledger, model, progress, sources
from quantcore.block_tuning import TuningConfig
from quantcore.blocks import parse_numbers
from quantcore.commands import console
from quantcore.errors import InputError
from quantcore.init import INITIALISERS
from quantcore.ledger import Ledger, PlannedLayer
from quantcore.machine import GIB
from quantcore.model import ModelConfig
from quantcore.results import Document
from quantcore.weight import Scheme


def quantize(
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub id, folder, GGUF file, or `default`.")
    ] = "default",
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write; gone on with if it is there."),
    ] = None,
    bpp: Annotated[
        float | None,
        typer.Option(help="Bits per weight as stored, codebooks and scales counted; 2 if left out"),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="One scheme for all layers, such as 2x8g8, instead of --bpp.")
    ] = None,
    mixed: Annotated[
        bool, typer.Option(help="A scheme for each layer within --bpp; no AQLM export.")
    ] = False,
    init: Annotated[str, typer.Option(help=", ".join(INITIALISERS))] = ModelConfig.init,
    search: console.Search = ModelConfig.search,
    beam: console.Beam = ModelConfig.beam,
    sweeps: console.Sweeps = ModelConfig.sweeps,
    damping: console.Damping = ModelConfig.damping,
    shrinkage: console.Shrinkage = ModelConfig.shrinkage,
    correction: Annotated[
        float,
        typer.Option(help="How far layers make up for what is quantized before them, 0 to 1."),
    ] = ModelConfig.correction,
    text: console.Text = ModelConfig.text,
    samples: Annotated[
        int, typer.Option(help="Windows of text that are learned from.")
    ] = ModelConfig.samples,
    heldout_samples: Annotated[
        int, typer.Option(help="Windows after them for held-out errors.")
    ] = ModelConfig.heldout_samples,
    length: Annotated[int, typer.Option(help="Tokens in a window.")] = ModelConfig.length,
    blocks: Annotated[
        str | None, typer.Option(help="Which blocks, such as 0-3 or 0,2,5-7; all if left out.")
    ] = None,
    epochs: Annotated[
        int, typer.Option(help="Passes through the text to tune each block; 0 for none.")
    ] = TuningConfig.epochs,
    seed: Annotated[int, typer.Option(help="All randomness.")] = ModelConfig.seed,
    device: console.Device = ModelConfig.device,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be done, and what it takes.")
    ] = False,
) -> None:
    """Quantize a whole model, block by block, into a folder that is a checkpoint.

    The same command goes on where an interrupted one stopped.
    """
    config = ModelConfig(
        model=None if name == "default" else name,
        bpp=2.0 if bpp is None and scheme is None else bpp,
        scheme=None if scheme is None else Scheme.parse(scheme),
        mixed=mixed,
        init=init,
        search=search,
        beam=beam,
        sweeps=sweeps,
        damping=damping,
        shrinkage=shrinkage,
        correction=correction,
        text=text,
        samples=samples,
        heldout_samples=heldout_samples,
        length=length,
        blocks=None if blocks is None else parse_numbers(blocks),
        tuning=TuningConfig(epochs=epochs),
        seed=seed,
        device=device,
    )
    if plan:
        _show_plan(config)
        return
    if folder is None:
        raise InputError("give --out FOLDER, or --plan to see what would be done")
    console.out.print(sources.resolve(config.model).note)
    _run(config, folder)


def _run(config: ModelConfig, folder: Path) -> None:
    try:
        with console.bar() as show:
            lines = _Lines()

            def observe(done: progress.Progress, manifest: Document) -> None:
                show(done)
                lines.tell(manifest)

            manifest = model.run(config, folder, observe)
    except KeyboardInterrupt:
        console.err.print("Interrupted: finished layers are kept; the same command goes on.")
        raise typer.Exit(console.INTERRUPTED) from None
    _show_result(manifest, folder)


class _Lines:
    """A line for every finished layer and block."""

    def __init__(self) -> None:
        self._told: set[str] | None = None

    def tell(self, manifest: Document) -> None:
        """Print what is new since the last call."""
        parts = {**manifest["layers"], **{f"block {n}": b for n, b in manifest["blocks"].items()}}
        if self._told is None:
            self._told = set(parts)
            if parts:
                console.out.print(f"Going on: {len(manifest['layers'])} layers are finished.")
        for name in [name for name in parts if name not in self._told]:
            self._told.add(name)
            self._line(name, parts[name])

    def _line(self, name: str, facts: Document) -> None:
        if "tuning" in facts:
            errors = [info["heldout"] for info in facts["tuning"]]
            words = f"held-out error {errors[0]:.4f}, tuned {min(errors):.4f}"
        else:
            words = (
                f"error {facts['relative_error']:.4f}, "
                f"held-out {facts['heldout_relative_error']:.4f}, rho {facts['rho']:.3g}"
            )
        seconds = facts["seconds"]
        taken = seconds["total"] if isinstance(seconds, dict) else seconds
        console.out.print(f"{name}: {words}, {taken:.1f} s", highlight=False)


def _show_result(manifest: Document, folder: Path) -> None:
    facts = Ledger(**{name: manifest["ledger"][name] for name in Ledger.__dataclass_fields__})
    seconds = sum(block["seconds"] for block in manifest["blocks"].values())
    peak = max(block["peak_bytes"] for block in manifest["blocks"].values())
    console.out.print(_bits(facts), highlight=False)
    console.out.print(
        f"{len(manifest['layers'])} layers in {seconds:.0f} s, peak memory {peak / GIB:.1f} GiB. "
        f"Written to {folder}",
        highlight=False,
    )


def _bits(facts: Ledger) -> str:
    return (
        f"{facts.code_bits:.3f} bits of codes a weight, {facts.layer_bits:.3f} with codebooks and "
        f"scales, {facts.stored_bits:.3f} as stored; {facts.bits_per_parameter:.3f} bits a "
        "parameter over the whole file"
    )


def _show_plan(config: ModelConfig) -> None:
    """What would be done, what it costs in bits, seconds and bytes."""
    skeleton, planned = model.plan(config)
    console.out.print(sources.resolve(config.model).note)
    table = Table("layers", "out x in", "how many", "scheme", "rho", "bits as stored", "seconds")
    expected = model.expected_seconds(config, skeleton, planned)
    for alike in _alike(planned):
        info, scheme = alike[0].info, alike[0].scheme
        facts = [alike[0].why, "", "", ""]
        if scheme is not None:
            seconds = sum(expected[layer.info.name] for layer in alike)
            rho = scheme.rho(info.out, info.columns)
            bits = ledger.ledger(skeleton, alike).stored_bits
            facts = [str(scheme), f"{rho:.3g}", f"{bits:.3f}", f"{seconds:.0f}"]
        table.add_row(info.projection, f"{info.out} x {info.columns}", str(len(alike)), *facts)
    console.out.print(table)
    if ledger.one_scheme(planned) is None:
        console.out.print("Layers differ in their scheme: AQLM's format has one a model, so this")
        console.out.print("model can be exported dense, and read by quantcore, but not by aqlm.")
    console.out.print(_bits(ledger.ledger(skeleton, planned)), highlight=False)
    need = model.expected_bytes(config, skeleton, planned)
    console.out.print(
        f"About {sum(expected.values()) / 60:.0f} minutes and {need / GIB:.1f} GiB of memory here.",
        highlight=False,
    )


def _alike(planned: tuple[PlannedLayer, ...]) -> list[list[PlannedLayer]]:
    """Layers of the same kind, shape and scheme together."""
    groups: dict[tuple[object, ...], list[PlannedLayer]] = {}
    for layer in planned:
        info = layer.info
        kind = (info.projection, info.out, info.columns, layer.scheme)
        groups.setdefault(kind, []).append(layer)
    return list(groups.values())
