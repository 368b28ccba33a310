"""A study as the command line that runs it again."""

import shlex
from dataclasses import MISSING, fields
from typing import Any

from aqviz import uploads
from aqviz.permalink import OPTIONAL, changed, scheme_name
from quantcore.experiment import Experiment
from quantcore.landscape import Landscape
from quantcore.starts import Starts
from quantcore.trial import Trial
from quantcore.weight import Scheme

IN_EVERY_COMMAND = {"sweeps", "device"}
FLAGS = {  # of fields that are named in the plural
    "layers": "layer",
    "schemes": "scheme",
    "inits": "init",
    "searches": "search",
    "beams": "beam",
    "shrinkages": "shrinkage",
    "seeds": "seed",
}


def of(config: Any) -> str:
    """The command line that runs the same study."""
    words = [*_words(config), "--json", "result.json"]
    return shlex.join(str(word) for word in words)


def _words(config: Any) -> list[Any]:
    match config:
        case Landscape(experiment=one):
            return ["quantcore", "landscape", *_layer_words(one), *_own(config, "experiment")]
        case Starts(experiment=one, noises=noises):
            named = [word for noise in noises for word in ("--noise", noise)]
            return ["quantcore", "starts", *_layer_words(one), *named]
        case Trial(blocks=blocks):
            numbers = ",".join(map(str, blocks))
            return ["quantcore", "trial", "--blocks", numbers, *_own(config, "blocks")]
        case Experiment():
            return ["quantcore", "layer", *_layer_words(config)]
    only_facts = [] if config.inits else ["--facts"]
    return ["quantcore", "survey", *_own(config), *only_facts]


def _own(config: Any, *without: str) -> list[Any]:
    """Flags for the fields that differ from their defaults; several values repeat their flag."""
    words: list[Any] = []
    for field in fields(config):
        value = getattr(config, field.name)
        made = field.default_factory
        default = field.default if made is MISSING else made()
        if field.name in without or value == default:
            continue
        flag = "--" + FLAGS.get(field.name, field.name).replace("_", "-")
        for one in value if isinstance(value, tuple) else (value,):
            words += [flag, scheme_name(one) if isinstance(one, Scheme) else one]
    return words


def _layer_words(experiment: Experiment) -> list[Any]:
    words: list[Any] = []
    scheme = experiment.scheme
    if experiment.problem:
        words += ["--problem", uploads.FILE, "--name", experiment.layer]
    else:
        words += ["--model", experiment.model] if experiment.model else []
        words += ["--layer", experiment.layer]
    words += ["--codebooks", scheme.codebooks, "--bits", scheme.bits, "--group", scheme.group]
    for init in experiment.inits:
        words += ["--init", init]
    words += ["--search", experiment.search, "--beam", experiment.width]
    words += ["--seed", experiment.seeds[0], "--seeds", len(experiment.seeds)]
    differ = changed(experiment)
    for setting in OPTIONAL:
        if setting in differ or setting.field in IN_EVERY_COMMAND:
            words += [setting.flag, getattr(experiment, setting.field)]
    return words
