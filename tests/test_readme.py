import re
from pathlib import Path

import pytest
from browsing import recorded

from aqviz import app, record

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_there_is_an_example():
    assert BLOCKS


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the app, over a fake engine."""
    with recorded(tmp_path_factory.mktemp("jobs")) as served:
        yield served


@pytest.mark.parametrize("block", BLOCKS)
def test_the_examples_run(block, address, capsys):
    exec(compile(block.replace(f"http://127.0.0.1:{app.PORT}", address), "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_tree_names_what_is_there():
    root = README.parent
    tree = re.search(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    folder, missing = root, []
    for line in tree[1].splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = root / name if name.endswith("/") else root
            missing += [] if (root / name).exists() else [name]
        else:
            missing += [] if (folder / name).exists() else [name]
    assert missing == []


def test_the_numbers_are_those_of_the_recordings():
    words = README.read_text(encoding="utf-8")
    table = re.search(r"<!-- table:begin -->\n(.*?)\n<!-- table:end -->", words, re.DOTALL)
    assert table[1].strip() == record.readme_table()
