"""What the documents and files of a deployment say is what the program does."""

import math
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import yaml

from aqviz.limits import Limits
from aqviz.recordings import FOLDER
from quantcore.corpora import ASSETS

ROOT = Path(__file__).parents[1]


def table() -> dict[str, list[str]]:
    """The settings' rows of docs/deploy.md by variable."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}


def said(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return "no limit" if value == math.inf else f"{value:g}"


def test_every_setting_is_documented_with_its_defaults():
    written = table()
    for one in fields(Limits):
        facts = one.metadata
        assert written[facts["name"]] == [facts["words"], said(one.default), said(facts["public"])]


def test_no_setting_is_documented_that_there_is_not():
    known = {one.metadata["name"] for one in fields(Limits)}
    assert {name for name in table() if name.startswith("AQVIZ_")} == known


def test_the_readme_begins_with_what_a_space_needs():
    _, front, _ = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    said = yaml.safe_load(front)
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert said["sdk"] == "gradio"
    assert said["sdk_version"] == pins["gradio"]
    assert said["license"] == project["license"].lower()
    assert (ROOT / said["app_file"]).is_file()
    assert len(said["short_description"]) <= 60  # the Hub takes no more
    assert tuple(map(int, said["python_version"].split("."))) >= (3, 11)


def test_the_container_runs_as_a_plain_user_and_copies_what_there_is():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and line[0].isupper()]
    users = [rest for step, rest in steps if step == "USER"]
    assert users == ["aqviz"]
    assert [step for step, _ in steps].index("USER") < [step for step, _ in steps].index("EXPOSE")
    for step, rest in steps:
        if step == "COPY":
            assert all((ROOT / name).exists() for name in rest.split()[1:-1])


def test_the_container_holds_what_the_app_runs_from_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line[0] not in "#!"] == ["*", "**/__pycache__"]
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    files = {project["project"]["readme"], *project["project"]["license-files"], "constraints.txt"}
    folders = {str(place.relative_to(ROOT)) for place in (FOLDER, ASSETS)}
    assert packages | files | folders | {"app.py", "pyproject.toml"} == kept
