r"""A trial: some blocks of a model quantized from each initialiser, tuned for a while, then asked.

    the original   reads all text once, and answers the prompt
    for every initialiser
      quantize     the chosen blocks, as `quantcore quantize` does; all others stay (`partial`)
      ask          the prompt
      tune         PV-tuning towards the original's predictions, for so many seconds or steps
      ask          the prompt again, of the state with the lowest KL on validation text

The curve is KL(original || quantized), nats a token, on validation windows: calibration text that
no Hessian, no step and no choice between epochs has seen. The state that is kept is chosen by it.

A budget of seconds is the same for all initialisers, and validations count. How many steps fit into
it is the machine's affair, so a budget of seconds does not give the same numbers twice; one of
steps does. The original's predictions, which every run needs, are computed before, on no one's
account.
"""

from dataclasses import asdict, dataclass, field
from math import isfinite

from quantcore import attempt, corpora, files, machine, model, results, sources, study
from quantcore import estimate as estimates
from quantcore.attempt import Attempt, Question, Windows
from quantcore.errors import InputError
from quantcore.generate import GenerateConfig
from quantcore.model import ModelConfig
from quantcore.progress import Meter, Observe
from quantcore.pv.descent import PvConfig
from quantcore.pv.loop import Until
from quantcore.pv.teacher import Teacher
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.sources import LoadedModel
from quantcore.weight import Scheme

KIND = "trial"
LOAD, READ, ASK = "load model", "the original reads the text", "the original answers"
STEP_PASSES = 3  # forward passes that a step costs: one, and a backward pass of two
TOKEN_PASSES = 24  # those that writing a token costs: its weights come from memory for it alone


@dataclass(frozen=True)
class Trial:
    """Everything that determines a trial.

    Attributes:
        model: What `sources.resolve` takes; None is the default model.
        blocks: The blocks that are quantized, from 0.
        scheme: Of all their layers.
        inits: Initialisers to compare.
        search: How codes are searched, one of `search.SEARCHES`.
        beam: Hypotheses the search keeps for each row; None is the search's own default.
        sweeps: Most rounds of refit and search.
        text: What `corpora.load_text` takes; its calibration part is used.
        window: Tokens in a window.
        samples: Windows that are learned from, by quantizing and by tuning.
        heldout_samples: Windows after them, by which block tuning is stopped; then as many again,
            on which the KL is measured.
        seconds: Of tuning, for each initialiser.
        steps: Of tuning, instead of `seconds`: the same settings then give the same numbers.
        every: Steps between two validations.
        prompt: What the models are asked.
        reply_tokens: Most tokens of a reply.
        seed: All randomness.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    model: str | None = None
    blocks: tuple[int, ...] = (10,)
    scheme: Scheme = field(default_factory=Scheme)
    inits: tuple[str, ...] = ("greedy", "oa-em")
    search: str = SearchConfig.name
    beam: int | None = None
    sweeps: int = 2
    text: str = "default"
    window: int = 128
    samples: int = 32
    heldout_samples: int = 6
    seconds: float = 20.0
    steps: int | None = None
    every: int = 3
    prompt: str = "Explain in two sentences why the sky is blue."
    reply_tokens: int = 40
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.inits or len(set(self.inits)) < len(self.inits):
            raise InputError("a trial needs at least one initialiser, and each named once")
        if not (self.seconds > 0 and isfinite(self.seconds)):
            raise InputError(f"seconds of tuning must be finite and above 0, got {self.seconds}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps of tuning must be at least 1, got {self.steps}")
        for name, least in (("every", 1), ("window", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.prompt.strip():
            raise InputError("the prompt is empty; say something")
        for init in self.inits:  # these check their own settings
            self.quantizing(init)
        self.reply  # noqa: B018

    def key(self) -> str:
        """A name for the result: the same settings and version give the same key."""
        width = SearchConfig(self.search, self.beam).kept
        facts = asdict(self) | {"beam": width}
        if self.steps is not None:
            del facts["seconds"]
        named = [KIND, facts, results.NUMBERS]
        return files.digest(named)

    def quantizing(self, init: str) -> ModelConfig:
        """How the blocks are quantized from an initialiser."""
        return ModelConfig(
            model=self.model,
            bpp=None,
            scheme=self.scheme,
            init=init,
            search=self.search,
            beam=self.beam,
            sweeps=self.sweeps,
            text=self.text,
            samples=self.samples,
            heldout_samples=self.heldout_samples,
            length=self.window,
            blocks=self.blocks,
            seed=self.seed,
            device=self.device,
        )

    @property
    def until(self) -> Until:
        """When tuning ends."""
        return Until(seconds=self.seconds) if self.steps is None else Until(self.steps)

    @property
    def reply(self) -> GenerateConfig:
        """How replies are drawn."""
        return GenerateConfig(tokens=self.reply_tokens, seed=self.seed)


def run(config: Trial, observe: Observe, previous: Document | None = None) -> Document:
    """Quantize, tune and ask from every initialiser.

    Args:
        config: What to run.
        observe: Called with the progress and the document so far, which goes on changing: copy what
            you keep; after every step and every token at least. May raise to stop.
        previous: An earlier document; its finished runs are kept if it has the same key. Quantized
            blocks are found in the cache anyway.

    Returns:
        The finished document (`docs/results.md`).

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory or the disk.
    """
    document = begin(config)
    fits = previous is not None and previous.get("key") == document["key"]
    earlier = previous if previous is not None and fits else document
    if earlier["complete"]:
        return earlier
    meter = Meter(observe, document)
    loaded = _loaded(config, meter)
    windows = _windows(config, loaded, document)
    teacher = Teacher(loaded.model)
    meter.begin(READ)
    _read(teacher, windows, meter)
    question = Question(config.prompt, config.reply)
    meter.begin(ASK)
    document["original"] = earlier["original"] or {"reply": question.put(loaded, ASK, meter)}
    kept = {entry["init"]: entry for entry in results.complete_runs(earlier, document["key"])}
    for init in config.inits:
        if init in kept:
            document["runs"].append(kept[init])
            for stage in attempt.stages(init):
                meter.skip(stage)
        else:
            _attempt(config, init, (loaded, teacher, windows), question, meter)
    document["complete"] = True
    meter.end()
    return document


def begin(config: Trial) -> Document:
    """The document before the model is known."""
    return {
        "kind": KIND,
        "key": config.key(),
        "config": asdict(config),
        "generation": asdict(config.reply),
        "complete": False,
        "model": None,
        "text": None,
        "original": None,
        "runs": [],
        **results.made_with(),
    }


def estimate(config: Trial) -> float:
    """Expected seconds of `run`, nothing of it in the cache.

    Raises:
        QuantcoreError: there is no such model, block or device.
    """
    return sum(_expected(config).values())


def _expected(config: Trial) -> dict[str, float]:
    """Expected seconds of each stage."""
    flop = estimates.rates_of(machine.resolve_device(config.device)).forward_flop
    skeleton, planned = model.plan(config.quantizing(config.inits[0]))
    parameters = sum(value.numel() for value in skeleton.parameters())
    token = 2 * parameters * flop
    validation = config.heldout_samples * config.window * token
    reply = config.reply_tokens * TOKEN_PASSES * token
    seconds = {
        LOAD: estimates.load_seconds(parameters),
        READ: config.samples * config.window * token + validation,
        ASK: reply,
    }
    for init in config.inits:
        quantizing, asking, tuning, asking_again = attempt.stages(init)
        work = model.expected_seconds(config.quantizing(init), skeleton, planned)
        seconds[quantizing] = sum(work.values())
        seconds[asking] = seconds[asking_again] = reply
        seconds[tuning] = config.seconds
        if config.steps is not None:
            measured = validation * (1 + config.steps / config.every)
            seconds[tuning] = config.steps * STEP_PASSES * config.window * token + measured
    return seconds


def _loaded(config: Trial, meter: Meter) -> LoadedModel:
    """The original in float32 on the device; a block that is not there is refused before."""
    source, document = sources.resolve(config.model), meter.document
    device = machine.resolve_device(config.device)
    document["model"] = {name: getattr(source, name) for name in ("kind", "name", "note")}
    meter.begin("plan")
    for stage, seconds in meter.patiently(lambda: _expected(config)).items():
        meter.plan(stage, seconds)
    meter.begin(LOAD)
    return meter.patiently(lambda: study.loaded(source, device))


def _windows(config: Trial, loaded: LoadedModel, document: Document) -> Windows:
    """What is learned from and, behind what block tuning is stopped by, what measures."""
    text, source = corpora.load_text(config.text, "calibration")
    samples, heldout = config.samples, config.heldout_samples
    wanted = samples + 2 * heldout
    found = corpora.windows(loaded.tokenizer, text, config.window, wanted)
    if len(found) < wanted:
        raise InputError(
            f"the text has {len(found)} windows of {config.window} tokens and this trial needs "
            f"{wanted}; give a longer text, shorter windows or fewer samples"
        )
    counts = {"windows": samples, "heldout_windows": heldout, "validation_windows": heldout}
    document["text"] = asdict(source) | counts | {"length": config.window}
    found = found.to(loaded.model.device)
    return Windows(found[:samples], found[-heldout:])


def _read(teacher: Teacher, windows: Windows, meter: Meter) -> None:
    """Let the original predict all text, which it then remembers."""
    every = [*windows.learned, *windows.validation]
    tell = meter.counted(READ)
    for number, ids in enumerate(every, start=1):
        teacher.hidden(ids)
        tell(number, len(every))


def _attempt(
    config: Trial,
    init: str,
    given: tuple[LoadedModel, Teacher, Windows],
    question: Question,
    meter: Meter,
) -> None:
    """Everything from one initialiser."""
    one = Attempt(
        *given,
        quantizing=config.quantizing(init),
        pv=PvConfig(seed=config.seed),
        until=config.until,
        every=config.every,
        question=question,
    )
    entry = attempt.begin(init)
    meter.document["runs"].append(entry)
    attempt.run(one, entry, meter)
