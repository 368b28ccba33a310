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
    own = ["-o", "addopts=--import-mode=importlib", "-W", "ignore", "-p", "no:cacheprovider"]
    return pytest.main([*own, "-q", str(HERE), *more])


if __name__ == "__main__":
    sys.exit(main())
