import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch, as `quantcore` does

from pathlib import Path

import pytest
import torch

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# hostile inputs go without the checks of types: `test_fuzz.py` runs them, or `make fuzz`
collect_ignore = [] if "AQVIZ_FUZZ" in os.environ else ["fuzz"]
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """Reference data kept beside the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the reference data beside the checkout is absent")
    return SHARED


@pytest.fixture
def command_line(monkeypatch, capsys):
    """The command line in this process: words -> exit code, stdout, stderr."""
    # not at the top: this file is read before the checks of types are in place
    from quantcore import __main__ as cli
    from quantcore.commands import console

    def run(*words, width=console.WIDE):
        monkeypatch.setattr("sys.argv", ["quantcore", *map(str, words)])
        monkeypatch.setattr(console, "out", console.Console(width=width))
        monkeypatch.setattr(console, "err", console.Console(stderr=True, width=400))
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run
