"""`quantcore models` and `quantcore layers`: what there is to quantize."""

from rich.table import Table

from quantcore import experiment, sources
from quantcore.commands import console
from quantcore.commands.console import Model, PresetBits


def models() -> None:
    """List the models that can be used without the network, the default first."""
    table = Table("model", "kind", "what it is")
    for source in sources.available():
        table.add_row(source.name, source.kind, source.note)
    console.out.print(table)
    console.out.print(
        f"Anything else that transformers loads: a Hub id such as {sources.DEFAULT_MODEL}."
    )


def layers(model: Model = None, bpp: PresetBits = None) -> None:
    """List a model's linear layers with their groups, rho and true bits at a scheme."""
    scheme = console.scheme(bpp, None, None, None)
    console.out.print(sources.resolve(model).note)
    table = Table("layer", "out x in", "groups", f"rho at {scheme}", "bits per weight")
    for info in experiment.layers(model).values():
        shape = (info.out, info.columns)
        if info.columns % scheme.group:
            facts = ["-", "-", "-"]
        else:
            bits = scheme.bits_per_weight(*shape)
            facts = [f"{scheme.groups(*shape):,}", f"{scheme.rho(*shape):.3g}", f"{bits:.3f}"]
        table.add_row(info.name, f"{info.out} x {info.columns}", *facts)
    console.out.print(table)
