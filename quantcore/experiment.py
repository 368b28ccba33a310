r"""The comparison, end to end: one layer, several initialisers, what each does to the model.

    resolve and load the model, measure the layer's Hessians (or read a problem file)
    for every initialiser and seed: layer.quantize, its trace in the document
    perplexity of the model with only that layer replaced, beside the original's

`run` is what the command line and the app both call. It hands the growing document to an observer
many times a second; the observer may raise `Cancelled`, and what the document holds then is what
there is. Finished runs of an earlier document of the same experiment are not computed again.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from quantcore import corpora, evaluate, files, machine, problems, results, sources, study, sweep
from quantcore import estimate as estimates
from quantcore.blocks import LayerInfo, layer_info
from quantcore.errors import InputError, SourceError, quoted
from quantcore.init import InitConfig
from quantcore.layer import LayerConfig
from quantcore.objective import LayerProblem, Regularisation
from quantcore.problems import TextConfig
from quantcore.progress import Meter, Observe
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.sources import LoadedModel
from quantcore.weight import AdditiveWeight, Scheme

MOST_WINDOWS = 10**6
MODEL_STAGES = ("load model", "measure Hessian", "perplexity")


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a comparison's result.

    Attributes:
        model: What `sources.resolve` takes; None is the default model.
        layer: The layer's name, or the prefix in a problem file.
        problem: A safetensors problem file instead of a model, by its path or another name (`run`).
        scheme: Codebooks, bits and group size.
        inits: Initialisers to compare.
        seeds: Each initialiser is run once with every seed.
        search: How codes are searched, one of `search.SEARCHES`.
        beam: Hypotheses the search keeps for each row; None is the search's own default.
        sweeps: Most rounds of refit and search.
        damping: See `objective.Regularisation`.
        shrinkage: See `objective.Regularisation`.
        text: What `corpora.load_text` takes.
        calibration_tokens: Tokens for the Hessian that algorithms see.
        heldout_tokens: Tokens of other text for the Hessian that they do not.
        window: Tokens in one window, for Hessians and perplexity.
        perplexity_windows: Windows of held-out text for the perplexity; 0 leaves it out.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    model: str | None = None
    layer: str = ""
    problem: str | None = None
    scheme: Scheme = field(default_factory=Scheme)
    inits: tuple[str, ...] = ("greedy", "oa-em")
    seeds: tuple[int, ...] = (0,)
    search: str = "feedback-descent"
    beam: int | None = None
    sweeps: int = 4
    damping: float = 0.0
    shrinkage: float = 0.0
    text: str = TextConfig.text
    calibration_tokens: int = TextConfig.calibration_tokens
    heldout_tokens: int = TextConfig.heldout_tokens
    window: int = TextConfig.window
    perplexity_windows: int = 8
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.inits or not self.seeds:
            raise InputError("an experiment needs at least one initialiser and one seed")
        if len(set(self.inits)) < len(self.inits) or len(set(self.seeds)) < len(self.seeds):
            raise InputError("initialisers and seeds must each be named once")
        sweep.check_seeds(*self.seeds)
        if not 0 <= self.perplexity_windows <= MOST_WINDOWS:
            raise InputError(
                f"perplexity windows must be at least 0 and at most {MOST_WINDOWS}, "
                f"got {quoted(self.perplexity_windows)}"
            )
        self.texts()  # these check their own settings
        for init in self.inits:
            self.config(init)

    def key(self) -> str:
        """A name for the result: the same settings and version give the same key."""
        # the width named or left to the search, it is one run
        facts = [asdict(self) | {"beam": self.width}, results.NUMBERS]
        return files.digest(facts)

    @property
    def width(self) -> int:
        """Hypotheses the search keeps for each row."""
        return SearchConfig(self.search, self.beam).kept

    def config(self, init: str) -> LayerConfig:
        """How one initialiser's runs quantize the layer."""
        return LayerConfig(
            scheme=self.scheme,
            init=InitConfig(init),
            search=SearchConfig(self.search, self.beam),
            sweeps=self.sweeps,
            regularisation=Regularisation(self.damping, self.shrinkage),
        )

    def texts(self) -> TextConfig:
        """Which text the Hessians are measured on."""
        return TextConfig(self.text, self.window, self.calibration_tokens, self.heldout_tokens)


def run(
    experiment: Experiment,
    observe: Observe,
    previous: Document | None = None,
    locate: Callable[[str], Path] = Path,
) -> Document:
    """Run the whole comparison.

    Args:
        experiment: What to run.
        observe: Called with the progress and the document so far, which goes on changing: copy what
            you keep. May raise to stop.
        previous: An earlier document; finished runs in it are kept if it has the same key.
        locate: Where the problem file is that the experiment names; the document says the name.

    Returns:
        The finished document (`docs/results.md`).

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory.
    """
    device = machine.resolve_device(experiment.device)
    document = results.begin(experiment.key(), experiment.layer, asdict(experiment))
    meter = Meter(observe, document)
    problem, loaded = problem_of(experiment, device, meter, locate)
    out, columns = problem.weight.shape
    document.update(results.shape_facts(experiment.scheme, out, columns))
    _plan_runs(experiment, meter, out, columns, device)
    kept = results.complete_runs(previous, document["key"])
    weights: dict[str, AdditiveWeight] = {}
    for init in experiment.inits:
        for seed in experiment.seeds:
            weight = _resume(kept, document, init, seed)
            if weight is not None:
                meter.skip(_stage(init, seed))
            else:
                weight = _one(experiment, problem, meter, init, seed)
            weights[_stage(init, seed)] = weight
    if loaded is not None and experiment.perplexity_windows:
        _perplexities(experiment, loaded, weights, meter)
    meter.end()
    return document


def layers(model: str | None) -> dict[str, LayerInfo]:
    """The linear layers of a model by name, without reading its weights where they are local.

    Raises:
        SourceError: there is no such model.
    """
    return sources.linear_layers(study.skeleton(sources.resolve(model)))


def estimate(experiment: Experiment, out: int, columns: int) -> float:
    """Expected seconds of `run` on a layer of this shape, Hessians measured and not yet cached."""
    device = machine.resolve_device(experiment.device)
    seconds = sum(
        estimates.layer_seconds(experiment.config(init), out, columns, device).total
        for init in experiment.inits
    ) * len(experiment.seeds)
    if experiment.problem is not None:
        return seconds
    skeleton = study.skeleton(sources.resolve(experiment.model))
    return seconds + sum(_model_seconds(experiment, skeleton, device))


def problem_of(
    experiment: Experiment,
    device: torch.device,
    meter: Meter,
    locate: Callable[[str], Path] = Path,
) -> tuple[LayerProblem, LoadedModel | None]:
    """The experiment's problem, and the model where it comes from one; both enter the document.

    Raises:
        QuantcoreError: the layer, model, file or text is not there or cannot be used.
    """
    if experiment.problem is not None:
        problem = problems.from_file(locate(experiment.problem), experiment.layer)
        return problem.to(device), None
    source, document = sources.resolve(experiment.model), meter.document
    document["model"] = {k: getattr(source, k) for k in ("kind", "name", "note")}
    meter.begin("plan")
    skeleton = meter.patiently(lambda: study.skeleton(source))
    layer = layer_info(skeleton, experiment.layer)
    experiment.scheme.check(layer.out, layer.columns)
    expected = meter.patiently(lambda: _model_seconds(experiment, skeleton, device))
    for stage, seconds in zip(MODEL_STAGES, expected, strict=True):
        meter.plan(stage, seconds)
    document["layer"] = layer.name
    meter.begin("load model")
    loaded = meter.patiently(lambda: study.loaded(source, device))
    meter.begin("measure Hessian")
    problem, texts = problems.from_model(
        loaded, document["layer"], experiment.texts(), meter.counted("measure Hessian")
    )
    document["text"] = asdict(texts["calibration"])
    document["heldout_text"] = asdict(texts["evaluation"])
    return problem, loaded


def _resume(
    kept: list[Document], document: Document, init: str, seed: int
) -> AdditiveWeight | None:
    """A finished run of an earlier document and its weight, where both are there."""
    for entry in kept:
        if (entry["init"], entry["seed"]) == (init, seed):
            try:
                weight = results.load_weight(results.weight_path(document["key"], init, seed))
            except SourceError:
                return None
            document["runs"].append(entry)
            return weight
    return None


def _one(
    experiment: Experiment, problem: LayerProblem, meter: Meter, init: str, seed: int
) -> AdditiveWeight:
    """Quantize the layer once; its weight is kept."""
    later = dict.fromkeys(("usage", "row_errors", "group_errors", "residuals", "perplexity"))
    entry = results.begin_run(init, seed) | later
    state = study.run(problem, experiment.config(init), entry, _stage(init, seed), meter)
    results.add_weight(entry, problem, state.weight)
    results.save_weight(results.weight_path(meter.document["key"], init, seed), state.weight)
    return state.weight


def _plan_runs(
    experiment: Experiment, meter: Meter, out: int, columns: int, device: torch.device
) -> None:
    """The runs are still to come; refuse what does not fit into memory."""
    for init in experiment.inits:
        seconds = study.seconds_of(experiment.config(init), out, columns, device)
        for seed in experiment.seeds:
            meter.plan(_stage(init, seed), seconds)


def _stage(init: str, seed: int) -> str:
    return f"{init}, seed {seed}"


def _perplexities(
    experiment: Experiment,
    loaded: LoadedModel,
    weights: dict[str, AdditiveWeight],
    meter: Meter,
) -> None:
    """The model's perplexity with each run's weight in the layer's place, beside the original's."""
    meter.begin("perplexity")
    windows = _evaluation_windows(experiment, loaded)
    candidates: dict[str, Float[Tensor, "out columns"] | None] = {"original": None}
    candidates.update({name: weight.dense() for name, weight in weights.items()})
    measured = evaluate.swapped_perplexities(
        loaded.model, meter.document["layer"], candidates, windows, meter.counted("perplexity")
    )
    original = measured["original"]
    facts = results.perplexity_entry(original, original)
    meter.document["perplexity"] = {
        "original": {name: facts[name] for name in ("value", "standard_error", "windows", "tokens")}
    }
    for entry in meter.document["runs"]:
        one = measured[_stage(entry["init"], entry["seed"])]
        entry["perplexity"] = results.perplexity_entry(one, original)


def _evaluation_windows(
    experiment: Experiment, loaded: LoadedModel
) -> Int[Tensor, "windows length"]:
    text, _ = corpora.load_text(experiment.text, "evaluation")
    return corpora.windows(loaded.tokenizer, text, experiment.window, experiment.perplexity_windows)


def _model_seconds(
    experiment: Experiment, skeleton: PreTrainedModel, device: torch.device
) -> tuple[float, float, float]:
    """Expected seconds to load the model, measure the Hessians and evaluate the candidates."""
    config = skeleton.config.get_text_config()
    head = config.vocab_size * config.hidden_size
    infos = sources.linear_layers(skeleton).values()
    here = layer_info(skeleton, experiment.layer)
    every = sum(info.out * info.columns for info in infos)
    before = sum(info.out * info.columns for info in infos if info.block < here.block)
    flop = estimates.rates_of(device).forward_flop
    texts = experiment.texts()
    tokens = texts.calibration_tokens + texts.heldout_tokens
    hessian = 2 * tokens * (before + here.columns**2) * flop
    seen = experiment.perplexity_windows * experiment.window
    candidates = 1 + len(experiment.inits) * len(experiment.seeds)
    swapped = 2 * seen * (before + candidates * (every - before + head)) * flop
    return estimates.load_seconds(every + head), hessian, swapped
