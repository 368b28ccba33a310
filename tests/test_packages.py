import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
GIVEN = {"gradio"}  # by the Space itself


def names(lines) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")}


def test_a_space_installs_what_the_project_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    space = names((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    assert space | GIVEN == names(project["dependencies"])


def test_what_was_tested_has_a_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tested = names((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    extras = project["optional-dependencies"]
    wanted = names(project["dependencies"]) | names(extras["test"]) | names(extras["dev"])
    assert wanted - {"aqviz"} <= tested


def test_every_package_is_installed():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    inits = [init for top in ("quantcore", "aqviz") for init in (ROOT / top).rglob("__init__.py")]
    assert set(tools["setuptools"]["packages"]) == {
        ".".join(i.relative_to(ROOT).parent.parts) for i in inits
    }


def test_every_file_beside_the_code_is_installed():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    for top in ("quantcore", "aqviz"):
        globs = tools["setuptools"]["package-data"].get(top, [])
        installed = {path for glob in globs for path in (ROOT / top).glob(glob)}
        files = {path for path in (ROOT / top).rglob("*") if path.is_file()}
        written = {path for path in files if path.parent.name != "__pycache__"}
        assert {path for path in written - installed if path.suffix != ".py"} == set()
