"""Every view as a zip: what a link's state shows, with the figures that the page draws of it.

A zip is asked for with the query of the view's link. Nothing is run for one: what is in it was
recorded, or found by a job.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aqviz import bundle
from aqviz.bundle import AbsentError, Bundles
from aqviz.core import Core
from aqviz.permalink import decode, from_query
from aqviz.shown import basins, inside, paper, perplexity, race, rho, search, tune
from aqviz.shown import map as layers

UNKNOWN = "there is no such view to download"
VIEWS: dict[str, tuple[Callable[[Mapping[str, str]], Any], Callable[[Core, Any], Bundles]]] = {
    "race": (from_query, race.bundles),
    "map": (partial(decode, layers.MapState), layers.bundles),
    "search": (partial(decode, search.SearchState), search.bundles),
    "basins": (partial(decode, basins.Basins), basins.bundles),
    "rho": (partial(decode, rho.RhoState), rho.bundles),
    "perplexity": (partial(decode, perplexity.Perplexity), perplexity.bundles),
    "tune": (partial(decode, tune.TuneState), tune.bundles),
    "inside": (partial(decode, inside.Inside), inside.bundles),
    "paper": (partial(decode, paper.PaperState), paper.bundles),
}
"""view -> what reads its state from a link's parameters, and what makes its bundles"""


def zip_of(core: Core, query: Mapping[str, str], link: str) -> bytes:
    """The zip of a view.

    Args:
        core: What there is.
        query: The parameters of the view's link.
        link: The same as it was written.

    Raises:
        AbsentError: there is no such view, or nothing in it.
        QuantcoreError: the link's state cannot be.
    """
    return bundle.zipped(made(core, query), link)


def made(core: Core, query: Mapping[str, str]) -> Bundles:
    """What is in a view's zip, by folder.

    Raises:
        AbsentError: there is no such view, or nothing in it.
        QuantcoreError: the link's state cannot be.
    """
    if query.get("view") not in VIEWS:
        raise AbsentError(UNKNOWN)
    read, make = VIEWS[query["view"]]
    return make(core, read(query))
