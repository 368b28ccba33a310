"""The Triton kernels compiled for GPUs that are not here, and the benchmark that tells of both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton")

from bench import gpu
from quantcore.kernels import launch

ROOT = Path(__file__).parents[2]
SMALLEST_SHARED = 48 << 10  # bytes that a program has on any GPU, without asking for more
NAMES = {"nearest": "assign", "lowest": "best"}  # where the table names the whole
COMPILE = """
import json
from bench import gpu
_, hungry = next(pair for pair in gpu.launches(90) if pair[1].kernel.__name__ == "_nearest")
starved = gpu.usage(gpu.compiled(hungry, 90, maxnreg=32))
print(json.dumps({"rows": gpu.binaries((80, 90, gpu.newest())), "starved": starved}))
"""


@pytest.fixture(scope="module")
def compiled():
    """What compiling said, from a process of its own: in this one the kernels are interpreted."""
    ran = subprocess.run(
        [sys.executable, "-c", COMPILE],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
def test_nothing_spills_on_any_architecture(compiled):
    assert {row["arch"] for row in compiled["rows"]} > {80, 90}
    assert [row for row in compiled["rows"] if row["spill_bytes"]] == []
    assert compiled["starved"]["spill_bytes"] > 0  # a spill would be seen


@pytest.mark.slow
def test_shared_memory_fits_any_gpu(compiled):
    assert max(row["shared_bytes"] for row in compiled["rows"]) <= SMALLEST_SHARED
    assert min(row["registers"] for row in compiled["rows"]) > 0


@pytest.mark.slow
def test_every_setting_of_the_table_is_compiled(compiled):
    fields = ("warps", "stages", "rows", "columns")
    for arch in {row["arch"] for row in compiled["rows"]}:
        rows = [row for row in compiled["rows"] if row["arch"] == arch]
        seen = {(NAMES.get(r["kernel"], r["kernel"]), *(r[f] for f in fields)) for r in rows}
        for kernel, rules in launch.TABLE.items():
            settings = {rule.setting for rule in rules if arch >= rule.arch}
            assert {(kernel, *(getattr(s, f) for f in fields)) for s in settings} <= seen


def test_the_benchmark_needs_a_gpu_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2
    assert capsys.readouterr().err.count("no CUDA device") == 1


def test_the_benchmark_compares_every_kernel(monkeypatch):
    monkeypatch.setattr(gpu, "CALLS", 1)
    device, scheme = torch.device("cpu"), (2, 16, 4, torch.int8, torch.float32)
    if torch.cuda.is_available():
        device = torch.device("cuda")
    rows = gpu.time_assignment((6, 8), (5, 4), device, gpu.host_time)
    rows += gpu.time_search((8, 4, 2, 3), device, gpu.host_time)
    rows += gpu.time_products((6, 8), scheme, (1, 3), device, gpu.host_time)
    assert [row["kernel"] for row in rows] == ["assign", "best", "decode"] + 4 * ["matmul"]
    assert all(row["difference"] < 1e-6 and row["ms"] > 0 and row["ratio"] > 0 for row in rows)
    assert {row["against"] for row in rows} == {"naive", "dense float16"}
