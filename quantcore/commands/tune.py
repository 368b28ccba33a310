"""`quantcore tune`: PV-tuning of a quantized model into a folder; the curve as a table."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quantcore import files
from quantcore.commands import console
from quantcore.progress import Progress
from quantcore.pv import folder as folders
from quantcore.pv.descent import PvConfig
from quantcore.pv.folder import METRICS, Tuning
from quantcore.pv.optimizers import OPTIMIZERS, OptimizerConfig
from quantcore.pv.recoding import RecodeConfig
from quantcore.results import Document

ROWS = 12  # validations shown


def tune(
    model: Annotated[str, typer.Argument(metavar="DIR", help="A quantized model.")],
    folder: Annotated[
        Path, typer.Option("--out", help="The folder to write; gone on with if it is there.")
    ],
    steps: Annotated[int | None, typer.Option(help="Steps to do.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of work, those before an interruption counted.")
    ] = None,
    against: console.Against = None,
    text: console.Text = Tuning.text,
    window: Annotated[int, typer.Option(help="Tokens in a window.")] = Tuning.window,
    batch: Annotated[int, typer.Option(help="Windows in a step.")] = PvConfig.batch,
    lr: Annotated[
        float, typer.Option(help="Of all but the codes; for lamb a share of each tensor's norm.")
    ] = OptimizerConfig.lr,
    code_lr: Annotated[
        float, typer.Option(help="Of the buffers that codes follow.")
    ] = PvConfig.code_lr,
    optimizer: Annotated[str, typer.Option(help=" or ".join(OPTIMIZERS))] = OptimizerConfig.name,
    change: Annotated[
        float, typer.Option(help="Largest share of the groups recoded in a step; 0 keeps codes.")
    ] = RecodeConfig.change,
    beam: Annotated[
        int, typer.Option(help="Hypotheses the search for codes keeps.")
    ] = RecodeConfig.beam,
    trust: Annotated[
        float | None, typer.Option(help="Bound on |change| / |weight| by new codes in a step.")
    ] = RecodeConfig.trust,
    decay: Annotated[
        float, typer.Option(help="Share by which buffers return to the weights after a step.")
    ] = PvConfig.decay,
    metric: Annotated[
        str, typer.Option(help=f"What codes are nearest in: {' or '.join(METRICS)}.")
    ] = Tuning.metric,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Tune the embedding and the output matrix too.")
    ] = False,
    every: Annotated[int, typer.Option(help="Steps between validations.")] = Tuning.every,
    seed: Annotated[int, typer.Option(help="All randomness.")] = PvConfig.seed,
    device: console.Device = Tuning.device,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
) -> None:
    """Tune a quantized model, codes included, towards its original's predictions (PV-tuning).

    The state with the lowest KL on validation text of its own is written. The same command goes on
    where an interrupted one stopped.
    """
    config = Tuning(
        model=model,
        against=against,
        steps=steps,
        minutes=minutes,
        text=text,
        window=window,
        every=every,
        metric=metric,
        embeddings=embeddings,
        pv=PvConfig(
            optimizer=optimizer,
            lr=lr,
            code_lr=code_lr,
            recode=RecodeConfig(change, beam, trust),
            decay=decay,
            batch=batch,
            seed=seed,
        ),
        device=device,
    )
    manifest: Document = {}
    try:
        with console.bar() as show:

            def observe(progress: Progress, found: Document) -> None:
                nonlocal manifest
                manifest = found
                show(progress)

            manifest = folders.run(config, folder, observe)
    except KeyboardInterrupt:
        console.err.print("Interrupted: the same command goes on from the last save.")
        raise typer.Exit(console.INTERRUPTED) from None
    finally:
        if json_file is not None and manifest:
            files.write_json(json_file, manifest)
    _show(manifest["tuning"])
    console.out.print(f"Written to {folder}")


def _show(tuning: Document) -> None:
    """The validations, evenly thinned, and which state was kept."""
    table = Table("step", "seconds", "groups recoded", "KL on its windows", "validation KL", "ppl")
    points, changed = [], 0
    for point in tuning["curve"]:
        changed += point["changed"]
        if point["validation_kl"] is not None:
            points.append((point, changed))
    stride = -(-len(points) // ROWS)
    for point, changed in [*points[:-1:stride], points[-1]]:
        learned = "-" if point["train_kl"] is None else f"{point['train_kl']:.4f}"
        table.add_row(
            str(point["step"]),
            f"{point['seconds']:.0f}",
            f"{changed:,}",
            learned,
            f"{point['validation_kl']:.4f}",
            f"{point['perplexity']:.3f}",
        )
    console.out.print(table)
    best = min((point for point, _ in points), key=lambda point: point["validation_kl"])
    console.out.print(f"Kept: step {best['step']}, validation KL {best['validation_kl']:.4f}")
