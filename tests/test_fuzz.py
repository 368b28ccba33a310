"""The short form of `make fuzz`, in a process of its own: no checks of types, its own memory."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "fuzz" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the guards are POSIX's")
def test_inputs_of_strangers_end_in_a_value_or_a_sentence():
    ended = subprocess.run(
        [sys.executable, RUN, "--times", "0.4"],
        capture_output=True,
        text=True,
        cwd=RUN.parents[2],
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
