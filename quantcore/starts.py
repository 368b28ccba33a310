r"""Many starts of one layer: does a better start end better?

Every initialiser and seed gives a start; noise gives others near it: to every number of a start's
codebooks is added noise of so many times the root mean square of its book, then codes are assigned
anew, book by book, in the initialiser's own metric (`init`). The same search goes on from each.

Whether the start decides is put as a rank correlation: Spearman's, of the error after
initialisation with the error at the end, over all starts and over those of each initialiser alone
(`correlation`). The first mixes what differs between initialisers with what differs within them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore import clustering, experiment, files, init, layer, machine, results, study
from quantcore import estimate as estimates
from quantcore.clustering import EMProblem
from quantcore.correlation import correlations
from quantcore.errors import InputError
from quantcore.estimate import LayerClock
from quantcore.experiment import Experiment
from quantcore.layer import LayerState, Phase, Run, Tick
from quantcore.objective import LayerProblem
from quantcore.progress import Meter, Observe
from quantcore.results import Document
from quantcore.weight import AdditiveWeight

KIND = "starts"
Kept = dict[tuple[str, int, float], Document]


@dataclass(frozen=True)
class Starts:
    """Everything that determines a study of starts.

    Attributes:
        experiment: The layer, the initialisers, the seeds and the search; its perplexity is not
            measured.
        noises: Strengths of the noise, as a share of the codebooks' root mean square; 0 is the
            initialiser's own start.
    """

    experiment: Experiment = field(default_factory=lambda: Experiment(seeds=tuple(range(4))))
    noises: tuple[float, ...] = (0.0, 0.25, 0.5)

    def __post_init__(self) -> None:
        if not self.noises or len(set(self.noises)) < len(self.noises):
            raise InputError("noises must be at least one, and each named once")
        for noise in self.noises:
            if not (noise >= 0 and isfinite(noise)):
                raise InputError(f"noise must be finite and at least 0, got {noise}")
        if self.experiment.sweeps < 1:
            raise InputError("starts need a search that goes on: sweeps must be at least 1, got 0")

    @property
    def layer(self) -> Experiment:
        """The experiment without what the study does not use."""
        return replace(self.experiment, perplexity_windows=0)

    def key(self) -> str:
        """A name for the result: the same settings and version give the same key."""
        facts = [KIND, self.layer.key(), self.noises]
        return files.digest(facts)


def run(config: Starts, observe: Observe, previous: Document | None = None) -> Document:
    """Run the search from every start.

    Args:
        config: What to run.
        observe: Called with the progress and the document so far, which goes on changing: copy what
            you keep. May raise to stop.
        previous: An earlier document; its starts are kept if it has the same key.

    Returns:
        The finished document (`docs/results.md`).

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory.
    """
    one, device = config.layer, machine.resolve_device(config.layer.device)
    document = begin(config)
    meter = Meter(observe, document)
    problem, _ = experiment.problem_of(one, device, meter)
    out, columns = problem.weight.shape
    document.update(results.shape_facts(one.scheme, out, columns))
    for name in one.inits:
        seconds = _family_seconds(config, name, out, columns, device)
        for seed in one.seeds:
            meter.plan(_stage(name, seed), seconds)
    fits = previous is not None and previous.get("key") == document["key"]
    done = previous["starts"] if previous is not None and fits else []
    kept = {(entry["init"], entry["seed"], entry["noise"]): entry for entry in done}
    for name in one.inits:
        for seed in one.seeds:
            _family(config, problem, meter, (name, seed), kept)
    document["complete"] = True
    meter.end()
    return document


def begin(config: Starts) -> Document:
    """The document before the layer is known."""
    return {
        "kind": KIND,
        "key": config.key(),
        "layer": config.experiment.layer,
        "config": asdict(config),
        "complete": False,
        "model": None,
        "text": None,
        "heldout_text": None,
        "starts": [],
        "correlation": correlations([]),
        **results.made_with(),
    }


def estimate(config: Starts, out: int, columns: int) -> float:
    """Expected seconds of `run` on a layer of this shape, Hessians measured and not yet cached."""
    one, device = config.layer, machine.resolve_device(config.layer.device)
    families = [_family_seconds(config, name, out, columns, device) for name in one.inits]
    alone = [study.seconds_of(one.config(name), out, columns, device) for name in one.inits]
    more = sum(families) - sum(alone)
    return experiment.estimate(one, out, columns) + len(one.seeds) * more


def perturbed(
    problem: LayerProblem, weight: AdditiveWeight, name: str, noise: float, rng: torch.Generator
) -> AdditiveWeight:
    """A start near another.

    Args:
        problem: The layer, with the Hessian that the initialiser sees.
        weight: The start.
        name: Its initialiser; codes are assigned in the metric of that.
        noise: Standard deviation of what is added, over each book's root mean square.
        rng: Draws the noise.
    """
    rms = weight.codebooks.square().mean((1, 2), keepdim=True).sqrt()
    drawn = torch.randn(weight.codebooks.shape, generator=rng).to(rms)
    books = weight.codebooks + noise * rms * drawn
    found = init.start(problem, weight.scheme)
    for book in books:
        vectors = init.residual(problem, found)
        codes = clustering.state_of(_metric(problem, vectors, name), book).codes
        found = replace(
            found,
            codes=torch.cat([found.codes, codes[..., None]], -1),
            codebooks=torch.cat([found.codebooks, book[None]]),
        )
    return found


def _family_seconds(
    config: Starts, name: str, out: int, columns: int, device: torch.device
) -> float:
    """Expected seconds of all starts of one initialiser and seed.

    Raises:
        ResourceError: a run does not fit into memory.
    """
    settings, count = config.layer.config(name), len(config.noises)
    whole = study.seconds_of(settings, out, columns, device)
    again = whole - estimates.layer_seconds(settings, out, columns, device).init
    return whole + (count - 1) * again


def _family(
    config: Starts, problem: LayerProblem, meter: Meter, family: tuple[str, int], kept: Kept
) -> None:
    """All starts of one initialiser and seed; the first of them is made once."""
    (name, seed), document = family, meter.document
    settings = config.layer.config(name)
    rng = torch.Generator().manual_seed(seed)
    run = Run.of(problem, settings, rng, lambda info: None)
    own: AdditiveWeight | None = None
    meter.begin(_stage(name, seed))
    for number, noise in enumerate(config.noises):
        entry = kept.get((name, seed, noise))
        if entry is None:
            run = replace(run, observe=_watching(run, meter, _stage(name, seed), config, number))
            if own is None:
                own = layer.start(run).weight
            start = own
            if noise:
                start = perturbed(run.seen, own, name, noise, _noise_rng(seed, noise))
            state = layer.improve(run, layer.start(run, start))
            entry = {"init": name, "seed": seed, "noise": noise, **_errors(state)}
        document["starts"].append(entry)
        document["correlation"] = correlations(document["starts"])
        meter.report()


def _watching(
    run: Run, meter: Meter, stage: str, config: Starts, number: int
) -> Callable[[Phase | Tick], None]:
    """Progress by searches of a family."""
    out, columns = run.problem.weight.shape
    clock = LayerClock(run.config, out, columns, run.problem.weight.device)
    count = len(config.noises)
    words = f"{stage}, noise {config.noises[number]:g}"

    def seen(info: Phase | Tick) -> None:
        if isinstance(info, Tick):
            share = (number + clock.share(info)) / count
            meter.part(share, f"{words}: {clock.words(info)}")

    return seen


def _errors(state: LayerState) -> Document:
    """A start's errors, first and last, and the seconds of the search between them."""
    first, last = state.trace[0].errors, state.trace[-1].errors
    return {
        "init_relative_error": first.relative,
        "init_heldout_relative_error": first.heldout_relative,
        "relative_error": last.relative,
        "heldout_relative_error": last.heldout_relative,
        "seconds": state.trace[-1].seconds,
    }


def _metric(
    problem: LayerProblem, vectors: Float[Tensor, "out groups group"], name: str
) -> EMProblem:
    """What an initialiser assigns codes in; row weights move no code."""
    if name == "greedy":
        return EMProblem.euclidean(vectors)
    if name == "oa-em-adam":
        problem = problem.regularised(init.RELEASED_DAMPING)
    blocks = problem.blocks(vectors.shape[2])
    return EMProblem(vectors, blocks, vectors.new_ones(len(vectors)))


def _noise_rng(seed: int, noise: float) -> torch.Generator:
    """Draws of their own for every seed and strength."""
    digest = hashlib.sha256(f"{seed} {noise}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6]))


def _stage(name: str, seed: int) -> str:
    return f"{name}, seed {seed}"
