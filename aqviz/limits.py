"""What this server allows, from settings of its environment, read once when it starts.

On one's own machine nearly everything is allowed. A public server, which a Space is without being
told, offers the default model and those it names, and bounds what one visitor can ask for.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from quantcore import machine
from quantcore.errors import InputError

NEVER = math.inf
ON_A_SPACE = "SPACE_ID"  # which Hugging Face sets there


def _setting(name: str, words: str, default: Any, public: Any = None) -> Any:
    """A field that a variable of the environment sets; in public its default may be another."""
    public = default if public is None else public
    return field(default=default, metadata={"name": name, "words": words, "public": public})


@dataclass(frozen=True)
class Limits:
    """What a server allows; infinity is no limit. Each field says its variable and its meaning."""

    public: bool = _setting("AQVIZ_PUBLIC", "1: the rules of a public server hold", False, True)
    models: tuple[str, ...] = _setting(
        "AQVIZ_MODELS", "Hub ids offered beside the default model, with commas between", ()
    )
    largest_layer: float = _setting(
        "AQVIZ_LARGEST_LAYER", "most million weights of a layer that is run", NEVER, 20.0
    )
    longest_job: float = _setting(
        "AQVIZ_LONGEST_JOB", "most expected seconds of one run on this machine", NEVER, 600.0
    )
    queue: float = _setting("AQVIZ_QUEUE", "most runs that wait", 20.0)
    each: float = _setting(
        "AQVIZ_JOBS_EACH", "most runs of one visitor, waiting ones included", NEVER, 1.0
    )
    kept_jobs: float = _setting("AQVIZ_KEPT_JOBS", "most finished runs that are kept", 1000.0)
    kept_mib: float = _setting(
        "AQVIZ_KEPT_MIB", "most MiB of runs, as many of their weights, of Hessians", 4096.0, 1024.0
    )
    kept_days: float = _setting("AQVIZ_KEPT_DAYS", "days for which these are kept", 365.0, 30.0)
    largest_upload: float = _setting("AQVIZ_LARGEST_UPLOAD", "most MiB of an uploaded file", 64.0)
    bucket: Path | None = _setting(
        "AQVIZ_BUCKET", "folder of runs and uploads, such as a mounted bucket", None
    )

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Those of this environment.

        Raises:
            InputError: a setting has a value that it cannot have.
        """
        values: dict[str, Any] = {}
        public = ON_A_SPACE in environment
        for one in fields(cls):  # whether it is public comes first
            text = environment.get(one.metadata["name"], "").strip()
            if text:
                values[one.name] = _value(one.metadata["name"], one.default, text)
            else:
                values[one.name] = one.metadata["public"] if public else one.default
            public = values["public"]
        return cls(**values)

    def folder(self, name: str) -> Path:
        """Where jobs or uploads are kept."""
        return (self.bucket or machine.cache_dir()) / name


def _value(name: str, default: Any, text: str) -> Any:
    """What a variable says, as the type of its default."""
    if default is None:
        return Path(text).expanduser()
    if isinstance(default, bool):
        if text not in {"0", "1"}:
            raise InputError(f"{name} must be 0 or 1, got {text!r}")
        return text == "1"
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < NEVER:
        raise InputError(f"{name} must be a number above 0, got {text!r}")
    return number
