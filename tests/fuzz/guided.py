"""Inputs that grow towards what has not been run yet: coverage-guided, for an afternoon.

    pip install atheris
    python tests/fuzz/guided.py {header,link,gguf} [FOLDER] [-max_total_time=100]

`run.py` draws inputs from what strangers are known to write; here bytes are changed as long as that
reaches new lines. Targets: the header of an uploaded file, a link's query for every view, a GGUF
file. The property is `run.py`'s: a value, or one sentence. What is found lies in the file that
libFuzzer names. Its options follow FOLDER, which holds first inputs and keeps new ones.
"""

import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qsl

import atheris

HERE = Path(__file__).parent
sys.path[:0] = map(str, (HERE.parents[1], HERE.parent, HERE))

with atheris.instrument_imports(include=["aqviz", "quantcore", "gguf"]):
    from aqviz import permalink, uploads
    from quantcore import conversion

from harness import check_sentence  # noqa: E402 - what follows is the check, not the checked
from models import write_gguf  # noqa: E402
from test_links import STATES  # noqa: E402

from quantcore.errors import QuantcoreError  # noqa: E402

PLACE = Path(tempfile.mkdtemp()) / "file"


def header(given: bytes) -> None:
    """An uploaded file, up to its numbers."""
    length = len(given).to_bytes(8, "little")
    PLACE.write_bytes(length + given)  # the length is right: what is wrong with it is known
    uploads._layers(PLACE)


def link(given: bytes) -> None:
    """A link's query, to each view."""
    query = dict(parse_qsl(given.decode("utf-8", "replace"), keep_blank_values=True))
    kinds = list(STATES.values())
    if given[:1] and given[0] % 11:
        permalink.decode(kinds[given[0] % len(kinds)], query)
    else:
        permalink.from_query(query)


def gguf(given: bytes) -> None:
    """A GGUF file, up to its weights."""
    PLACE.write_bytes(given)
    conversion.check_gguf(PLACE)


FIRST = {
    "header": lambda: b'{"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}',
    "link": lambda: b"v=1&view=race&layer=a&scheme=2x8g8&inits=greedy&search=beam&beam=8&seed=0",
    "gguf": lambda: write_gguf(PLACE.with_suffix(".gguf")).read_bytes(),
}


def main() -> None:
    """Try until libFuzzer is told to stop, or finds something."""
    target, *more = sys.argv[1:]
    work = {"header": header, "link": link, "gguf": gguf}[target]
    given = Path(more[0]) if more and not more[0].startswith("-") else PLACE.parent / "inputs"
    given.mkdir(parents=True, exist_ok=True)
    (given / "first").write_bytes(FIRST[target]())

    def once(found: bytes) -> None:
        try:
            work(found)
        except QuantcoreError as error:
            check_sentence(str(error))

    options = [one for one in more if one.startswith("-")]
    atheris.Setup([sys.argv[0], str(given), "-timeout=10", "-rss_limit_mb=4096", *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
