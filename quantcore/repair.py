"""The configuration of an AQLM checkpoint, mended without touching its tensors.

AQLM's own converter, and checkpoints made with it, name the layers that are not quantized by their
weights (`lm_head.weight`). transformers 5 compares modules' names (`lm_head`), takes these layers
for quantized ones and fills them with random numbers, or fails. What the configuration should say
follows from the tensors.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from quantcore import checkpoints, files, shards, sources
from quantcore.errors import InputError, SourceError
from quantcore.linear import quantized_layers

SKIPPED = "linear_weights_not_to_quantize"
BACKUP = "config.json.bak"


def repair(spec: str, out: Path | None = None, in_place: bool = False) -> list[str]:
    """Mend a checkpoint's config.json.

    Args:
        spec: The checkpoint, as `sources.resolve` takes it.
        out: A new folder for a mended copy.
        in_place: Mend the checkpoint itself; the old file stays beside it as config.json.bak.

    Returns:
        What is changed, a sentence each; none where nothing has to be. With neither `out` nor
        `in_place` nothing is written.

    Raises:
        InputError: the checkpoint is not quantized, its layers differ in their scheme, or the
            place to write to is not free.
    """
    if out is not None and in_place:
        raise InputError("give either --out DIR or --in-place, not both")
    if out is not None and out.exists():
        raise InputError(f"{out} is there; name a new folder")
    source = sources.resolve(spec)
    if in_place and source.kind != "folder":
        raise InputError(f"{spec} lies in a cache and is not changed there; give --out DIR")
    folder = sources.folder(source)
    config, changes = _mended(folder, source.name)
    if not changes:
        return []
    if out is not None:
        shutil.copytree(folder, out)
        files.write_json(out / "config.json", config)
    elif in_place:
        if not (folder / BACKUP).exists():
            shutil.copy2(folder / "config.json", folder / BACKUP)
        files.write_json(folder / "config.json", config)
    return changes


def _mended(folder: Path, name: str) -> tuple[dict[str, Any], list[str]]:
    """What config.json should hold, and how that differs from what it holds."""
    skeleton = checkpoints.read_skeleton(folder, name)
    layers = quantized_layers(skeleton)
    if not layers:
        raise SourceError(f"model {name} has no quantized layers; there is nothing to mend")
    wanted = shards.quantization_config(skeleton)
    if wanted is None:
        raise InputError(
            f"layers of {name} differ in their scheme and AQLM's config.json has room for one; "
            "use `quantcore export --format dense`"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = config.get("quantization_config") or {}
    listed = found.get(SKIPPED) or []
    wrong = [entry for entry in listed if shards.caught(entry, layers)]
    new = [entry for entry in wanted[SKIPPED] if entry not in listed]
    wanted[SKIPPED] = [entry for entry in listed if entry not in wrong] + new
    changes = [f"{entry} left {SKIPPED}: it names a quantized layer" for entry in wrong]
    changes += [f"{entry} came to {SKIPPED}" for entry in new]
    changes += [
        f"{key} is {value}" + (f", not {found[key]}" if key in found else ", and was not said")
        for key, value in wanted.items()
        if key != SKIPPED and found.get(key) != value
    ]
    config["quantization_config"] = {**found, **wanted}
    return config, changes
