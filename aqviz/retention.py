"""How much is kept of what can be made again: files by number, bytes and age."""

import time
from collections.abc import Iterable
from pathlib import Path

DAY = 86_400.0
MIB = 1 << 20


def make_room(files: Iterable[Path], count: float, size: float, days: float) -> list[Path]:
    """Remove what was written longest ago, as far as there is too much of it.

    Args:
        files: What may be removed.
        count: Most files that stay.
        size: Most bytes that stay.
        days: Since a file that stays was written.

    Returns:
        The files that were removed.
    """
    stats = {}
    for file in files:
        try:
            stats[file] = file.stat()
        except FileNotFoundError:  # removed by another program meanwhile
            continue
    oldest, removed = time.time() - DAY * days, []
    for file in sorted(stats, key=lambda one: stats[one].st_mtime_ns, reverse=True):
        count, size = count - 1, size - stats[file].st_size
        if count < 0 or size < 0 or stats[file].st_mtime < oldest:
            file.unlink(missing_ok=True)
            removed.append(file)
    return removed
