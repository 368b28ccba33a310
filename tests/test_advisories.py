"""The tested versions against advisories that were published for them.

Whoever can reach a database of advisories asks it (`pip-audit -r constraints.txt`); this list is
for everyone else, and keeps a pin from going back behind a mended version.
"""

from pathlib import Path

import pytest
from packaging.version import Version

MENDED = {  # package -> the first version without it, and the advisory
    "certifi": ("2024.7.4", "CVE-2024-39689"),
    "filelock": ("3.20.1", "CVE-2025-68146"),
    "gradio": ("6.7.0", "CVE-2026-28414"),
    "h11": ("0.16.0", "CVE-2025-43859"),
    "idna": ("3.7", "CVE-2024-3651"),
    "Jinja2": ("3.1.6", "CVE-2025-27516"),
    "pillow": ("12.3.0", "PYSEC-2026-2253"),
    "protobuf": ("6.31.1", "CVE-2025-4565"),
    "pyarrow": ("14.0.1", "CVE-2023-47248"),
    "Pygments": ("2.20.0", "GHSA-5239-wwwm-4pmq"),
    "pytest": ("9.0.3", "GHSA-6w46-j5rx-g56g"),
    "python-multipart": ("0.0.27", "CVE-2026-42561"),
    "requests": ("2.32.4", "CVE-2024-47081"),
    "starlette": ("0.49.1", "CVE-2025-62727"),
    "torch": ("2.6.0", "CVE-2025-32434"),
    "tqdm": ("4.66.3", "CVE-2024-34062"),
    "urllib3": ("2.7.0", "CVE-2026-44432"),
}


@pytest.mark.parametrize("package", MENDED)
def test_the_tested_version_is_mended(package):
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8").split()
    pins = dict(line.split("==") for line in lines if "==" in line)
    first, advisory = MENDED[package]
    assert Version(pins[package]) >= Version(first), advisory
