"""Feed the program with what strangers could give it.

    python tests/fuzz/run.py [--times 5] [--json FILE] [further words for pytest]

Without the type checks of the suite, and without its rule that a warning is an error: strangers
meet neither. `make fuzz` is the long form, `tests/test_fuzz.py` the short one.
"""

import argparse
import os
import sys
from pathlib import Path

import pytest

STUCK = 60  # seconds of a test: what is compiled and never comes back does not hear the watchdog
HERE = Path(__file__).parent


def main() -> int:
    """pytest's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--times", type=float, default=1.0, help="of the inputs as written")
    parser.add_argument("--json", type=Path, help="where to write the table")
    chosen, more = parser.parse_known_args()
    os.environ["AQVIZ_FUZZ"] = str(chosen.times)
    if chosen.json is not None:
        os.environ["AQVIZ_FUZZ_JSON"] = str(chosen.json.resolve())
    settings = {
        "addopts": "--import-mode=importlib",
        "faulthandler_timeout": STUCK * max(1.0, chosen.times),
        "faulthandler_exit_on_timeout": "true",
    }
    own = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    return pytest.main([*own, "-W", "ignore", "-p", "no:cacheprovider", "-q", str(HERE), *more])


if __name__ == "__main__":
    sys.exit(main())
