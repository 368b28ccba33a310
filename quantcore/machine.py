"""What this machine is, what it has left, and what it can reach.

Everything that depends on where the code runs is asked here and nowhere else: the cache folder, the
memory still free (a container's own limit counts, not the host's), the device, the versions that a
result records, and whether the Hub answers. Work that might not fit says what it needs first
(`require_memory`), so that too much is refused in a sentence instead of ending the process.
"""

import os
import platform
import sys
import urllib.request
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic

import platformdirs
import psutil
import torch
from huggingface_hub import constants, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from quantcore.errors import InputError, ResourceError, quoted

GIB = 1 << 30
REPORTED = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "safetensors",
    "gguf",
    "numpy",
    "numba",
)
HUB_SECONDS = 3.0  # the Hub's own client retries for 23 s where there is no network
HUB_REMEMBERED = 60.0  # seconds for which its last answer stands
# what a download may raise: the client's errors, the network's and its transfer library's
HUB_ERRORS: tuple[type[Exception], ...] = (
    *HfHubHTTPError.__bases__,
    HFValidationError,
    RuntimeError,
)
CGROUP = Path("/sys/fs/cgroup")
CPU_INFO = Path("/proc/cpuinfo")


def cache_dir() -> Path:
    """Where converted models and finished results are kept: $QUANTCORE_CACHE or the user's cache.

    The folder need not exist yet.
    """
    named = os.environ.get("QUANTCORE_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("quantcore"))


def available_memory(device: torch.device | None = None) -> int:
    """Bytes that can still be taken: on a CUDA device if one is given, else of main memory."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    limit = _container_memory()
    return free if limit is None else min(free, limit)


def peak_memory() -> int:
    """The most bytes of main memory that this process has held so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else 1024 * most


def require_memory(need: int, purpose: str, device: torch.device | None = None) -> None:
    """Refuse work that needs more bytes than there are.

    Args:
        need: Bytes the work will hold at its peak.
        purpose: The start of the sentence, such as "loading model x".
        device: Where; main memory if it is not given.

    Raises:
        ResourceError: fewer bytes are available.
    """
    free = available_memory(device)
    if need > free:
        raise ResourceError(
            f"{purpose} needs about {need / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB are "
            "free; choose something smaller or close other programs"
        )


def resolve_device(name: str) -> torch.device:
    """The device that `name` stands for: cpu, cuda, cuda:N or auto, a GPU where there is one.

    Raises:
        InputError: the name is none of these, or this machine has no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {quoted(name)}")
    if kind == "cuda" and int(index or 0) >= count:
        raise InputError(
            f"device {name} is not there: this machine has {count} CUDA devices; use cpu or auto"
        )
    return torch.device(name if kind == "cuda" else "cpu")


def describe() -> dict[str, str | int]:
    """What the machine is, as a result records it.

    >>> sorted(describe())
    ['cores', 'cpu', 'gpu', 'memory_gib', 'platform']
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory_gib": round(psutil.virtual_memory().total / GIB),
        "platform": platform.platform(terse=True),
        "gpu": gpu,
    }


def versions() -> dict[str, str]:
    """The versions that a result depends on, by package."""
    found = {name: _version(name) for name in (*REPORTED, "aqviz")}
    return {"python": platform.python_version(), **found}


def hub_reachable() -> bool:
    """Whether the Hub answers within a few seconds; HF_ENDPOINT and HF_HUB_OFFLINE count."""
    if is_offline_mode():
        return False
    return _answers(constants.ENDPOINT, int(monotonic() // HUB_REMEMBERED))


@lru_cache(maxsize=1)
def _answers(url: str, _minute: int) -> bool:
    # the second argument makes the cache forget
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return True
    except (OSError, ValueError):  # no route, no name, refused, a proxy's page; not a URL
        return False


def _container_memory() -> int | None:
    """Bytes left under the limit of the control group, where there is one."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such files, or "max": no limit
        return None
    return max(0, limit - used + int(stat.get("inactive_file", 0)))  # file pages can be dropped


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
