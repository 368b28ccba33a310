"""What programs may ask of the app: a few typed functions. Every handler of the page is private.

A run is asked for with `race`, which answers at once; `job` tells how far it is and what it found.
`app.build` publishes the functions under their names, for `gradio_client`, HTTP and, with the
extra, MCP; their types and docstrings are what callers read. Gradio hands on whatever JSON it is
sent, so types are checked here (`checked`), and values as strictly as a link's.
"""

import inspect
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from aqviz import permalink, recordings, report
from aqviz.core import Core
from aqviz.jobs import Job
from aqviz.parts.visitors import visitor
from quantcore.errors import InputError, SourceError, as_name, quoted
from quantcore.experiment import Experiment
from quantcore.weight import Scheme

MOST = 10**9  # rows or columns of a layer that is only asked about
UNKNOWN_JOB = "there is no job of this id; ask for one with race"


class Api:
    """The functions, over the app's core; each raises a QuantcoreError for what it cannot take."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def functions(self) -> list[Callable[..., Any]]:
        """What is published."""
        looking = (self.layers, self.regime, self.recordings, self.recording)
        return [checked(one) for one in (*looking, self.race, self.job, self.cancel)]

    def layers(self, model: str = "") -> list[dict[str, Any]]:
        """The linear layers of a model: name, block, projection, rows (out) and columns (in).

        Args:
            model: A Hub id, a folder or a GGUF file; a public server takes only those that it
                offers. Empty is the default model.
        """
        return [asdict(layer) for layer in self._core.layers(model).values()]

    def regime(self, rows: int, columns: int, scheme: str = "2x8g8") -> dict[str, Any]:
        """Groups N, sums K^M, rho = N / K^M and bits per weight of a layer at a scheme.

        Args:
            rows: Outputs of the layer.
            columns: Inputs of the layer.
            scheme: Codebooks x bits a code, g weights a group: 2x8g8.
        """
        if min(rows, columns) < 1:
            raise InputError("a layer has at least one row and column, got less")
        if max(rows, columns) > MOST:
            raise InputError(f"a layer has at most {MOST} rows and columns here, got more")
        parsed = Scheme.parse(scheme)
        parsed.check(rows, columns)
        return {
            "scheme": permalink.scheme_name(parsed),
            "groups": parsed.groups(rows, columns),
            "sums": 2 ** (parsed.codebooks * parsed.bits),
            "rho": parsed.rho(rows, columns),
            "bits_per_weight": parsed.bits_per_weight(rows, columns),
        }

    def race(
        self,
        layer: str,
        scheme: str = "2x8g8",
        initialisers: list[str] | None = None,
        search: str = permalink.DEFAULT.search,
        beam: int | None = None,
        seeds: int = 1,
        settings: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Quantize one layer from several initialisers with one search; answers with the job.

        The same settings are the same job: what is done or running is not begun again.

        Args:
            layer: The layer's full name, as layers gives it.
            scheme: Codebooks x bits a code, g weights a group: 2x8g8.
            initialisers: Of greedy, oa-em and oa-em-adam; greedy and oa-em where none are given.
            search: One of feedback-descent, feedback, descent and beam.
            beam: Hypotheses kept for each row; none is the search's own default.
            seeds: Each initialiser runs once with every seed from 0 on; at most 5.
            settings: Others, named as in links: model, seed, sweeps, tokens, shrinkage and so on.
        """
        others = {"model", "seed", *(setting.query for setting in permalink.OPTIONAL)}
        given = settings or {}
        strange = sorted(set(given) - others)
        if strange:
            raise InputError(
                f"settings may hold {', '.join(sorted(others))}, got {as_name(', '.join(strange))}"
            )
        query = {name: str(value) for name, value in given.items()}
        query |= {"layer": layer, "scheme": scheme, "search": search, "seeds": str(seeds)}
        if beam is not None:
            query["beam"] = str(beam)
        if initialisers is not None:
            query["inits"] = ",".join(initialisers)
        return self._told(self._core.store.submit(self._checked(query), visitor()))

    def job(self, job_id: str) -> dict[str, Any]:
        """How far a job is, what it found in one sentence, and its whole document so far.

        Args:
            job_id: From race.
        """
        return self._told(self._job(job_id), whole=True)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Ask a job to stop; what it has found is kept, and the same race goes on from there.

        Args:
            job_id: From race.
        """
        self._core.store.cancel(self._job(job_id).id, visitor())
        return self._told(self._job(job_id))

    def recordings(self) -> list[dict[str, Any]]:
        """Names, kinds and dates of the studies and evaluations that came with the program."""
        return [
            {"name": name, "kind": found.get("kind", "experiment"), "date": found.get("date")}
            for name, found in recordings.studies().items()
        ]

    def recording(self, name: str) -> dict[str, Any]:
        """The whole document of a recorded study.

        Args:
            name: As recordings gives it.
        """
        found = recordings.studies().get(name)
        if found is None:
            raise InputError(f"there is no recording {quoted(name)}; recordings lists them")
        return found

    def _checked(self, query: dict[str, str]) -> Experiment:
        """The experiment of a link's parameters, on a layer that there is."""
        experiment = permalink.from_query(query).experiment
        if experiment is None:
            raise InputError("the layer is empty; name one, as layers gives it")
        layer = self._core.layers(experiment.model).get(experiment.layer)
        if layer is None:
            raise SourceError(
                f"this model has no layer {as_name(experiment.layer)}; layers lists them"
            )
        experiment.scheme.check(layer.out, layer.columns)
        return experiment

    def _job(self, job_id: str) -> Job:
        job = self._core.store.get(job_id)
        if job is None:
            raise InputError(UNKNOWN_JOB)
        return job

    def _told(self, job: Job, whole: bool = False) -> dict[str, Any]:
        place = self._core.store.place(job)
        told: dict[str, Any] = {
            "id": job.id,
            "state": str(job.state),
            "ahead": place.ahead,
            "wait": place.seconds,
            "progress": job.progress._asdict() if job.progress else None,
            "error": job.error,
        }
        if isinstance(job.config, Experiment):
            told["link"] = f"?{permalink.to_query(job.config, job.id)}"
            told["sentence"] = report.sentence(job.document, str(job.state))
        return told | ({"document": job.document} if whole else {})


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which refuses arguments of other types in one sentence."""
    strict = validate_call(config=ConfigDict(strict=True))(function)
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        try:
            return strict(*given, **named)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            argument, *_ = first["loc"]  # its name, or its place
            at = isinstance(argument, int) and argument < len(names)
            place = names[int(argument)] if at else argument
            name = place if place in names else quoted(place)
            words = f"{function.__name__} cannot use what it was given as {name}: {first['msg']}"
            raise InputError(words) from None

    return called
