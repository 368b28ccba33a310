"""The site on disk: written beside its place, then renamed to it, so there is never half of one.

`aqviz-static.json` lists every file with its SHA-256. By that an earlier site is known, which may
be replaced; a folder with anything else in it is left alone.
"""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import parse_qsl

from aqviz import bundle, text
from aqviz.core import Core
from aqviz.engine import Engine
from aqviz.recordings import FIRST
from aqviz.shown import bundles
from aqviz.shown.learn import WORDS
from aqviz.static import contents, render
from aqviz.static.pages import UNZIPPED, Page, pages
from aqviz.static.parts import View
from aqviz.static.views import views
from aqviz.store import JobStore
from aqviz.vendor import PLOTLY
from quantcore.errors import InputError

LIST = "aqviz-static.json"
SENTENCE = re.compile(r"(?<=\.)\s")  # where one ends
MOST = 330  # letters of what the first page says of a view
HERE, APP = Path(__file__).parent, Path(__file__).parents[1]
STYLES = (APP / "app.css", *sorted((APP / "styles").glob("*.css")), HERE / "site.css")


class Written(NamedTuple):
    """What was written: pages, all files, their bytes."""

    pages: int
    files: int
    bytes: int


def write(folder: Path) -> Written:
    """Write the site into a folder that is new, empty or an earlier site.

    Raises:
        InputError: the folder is something else, cannot be written, or nothing is recorded.
    """
    place = folder.resolve()
    made = place.with_name(f".{place.name}-{secrets.token_hex(4)}")
    try:
        check(place)
        made.mkdir(parents=True)
        written = _fill(made)
        _replace(place, made)
    except OSError as error:
        raise InputError(f"{place} cannot be written: {error.strerror}; name another one") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)  # renamed it is gone already
    return written


def check(place: Path) -> None:
    """Refuse a place that holds anything that this program did not write.

    Raises:
        InputError: it does, or is a file.
    """
    if not place.exists():
        return
    if not place.is_dir():
        raise InputError(f"{place} is a file and the site is a folder; name another one")
    try:
        ours = set(json.loads((place / LIST).read_text(encoding="utf-8"))["files"]) | {LIST}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    others = sorted(path.name for path in place.iterdir() if path.name not in ours)
    if others:
        raise InputError(
            f"{place} holds {others[0]!r}, which is of no earlier site, and would be lost; name an "
            "empty or a new folder"
        )


def _fill(folder: Path) -> Written:
    with TemporaryDirectory() as empty:
        store = JobStore(Path(empty), Engine())  # no job of this machine belongs in the site
        try:
            core = Core(Engine(), store, contents.races().get(FIRST))
            listed = {name: _put(folder / name, body) for name, body in _files(core)}
        finally:
            store.close()
    listing = json.dumps(
        {"made by": "aqviz static", "files": dict(sorted(listed.items()))}, indent=1
    )
    _put(folder / LIST, listing + "\n")
    found = list(folder.iterdir())
    count = sum(path.suffix == ".html" for path in found)
    return Written(count, len(found), sum(path.stat().st_size for path in found))


def _put(path: Path, body: str | bytes) -> str:
    """Write, and say the SHA-256."""
    data = body.encode() if isinstance(body, str) else body
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _replace(place: Path, made: Path) -> None:
    """Give the site its place; an earlier one is away only when that is done."""
    if not place.exists():
        made.rename(place)
        return
    old = made.with_name(made.name + "-old")
    place.rename(old)
    try:
        made.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old)


def _files(core: Core) -> Iterator[tuple[str, str | bytes]]:
    """Every file by its name."""
    every = views()
    yield render.INDEX, render.front(_told(core, every))
    zips = set()
    for page in pages(core, every):
        yield page.file, render.page(page)
        if page.zip and page.zip not in zips:
            zips.add(page.zip)
            yield page.zip, _zip(core, page)
    yield "aqviz.css", "\n".join(path.read_text(encoding="utf-8") for path in STYLES)
    yield "look.js", _script(HERE / "look.js")
    yield "draw.js", _script(HERE / "draw.js")
    yield PLOTLY.name, PLOTLY.read_bytes()


def _told(core: Core, every: tuple[View, ...]) -> Mapping[str, tuple[str, str]]:
    """What every view asks and what its data say, by its name."""
    told = {}
    for view in every:
        if view.name == UNZIPPED:
            found = f"{', '.join(words.title for words in WORDS.values())}."
        else:
            query = dict(parse_qsl(contents.query(view.name, view.first)))
            found = next(iter(bundles.made(core, query).values())).told
        told[view.name] = (text.read(view.words).title, begun(found))
    return told


def begun(words: str) -> str:
    """As many whole sentences as `MOST` letters hold, and the first in any case.

    >>> begun("Short. " + "Long " * 100 + "sentence.")
    'Short.'
    """
    first, *others = SENTENCE.split(words)
    for other in others:
        if len(first) + len(other) >= MOST:
            break
        first += f" {other}"
    return first


def _zip(core: Core, page: Page) -> bytes:
    """Everything of a page, as the app gives it for the same link."""
    if isinstance(page.zipped, contents.Race):
        core = replace(core, recording=contents.race_of(page.zipped))
    query = contents.query(page.view, page.zipped)
    return bundle.zipped(bundles.made(core, dict(parse_qsl(query))), query)


def _script(path: Path) -> str:
    """A script with those of the app in the places that it names: `/* app: NAME.js */`."""
    head, *parts = path.read_text(encoding="utf-8").split("/* app: ")
    made = [head]
    for part in parts:
        name, _, rest = part.partition(" */")
        made += [(APP / name).read_text(encoding="utf-8"), rest]
    return "".join(made)
