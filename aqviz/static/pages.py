"""From the views' states to pages, and the links among them.

A link of a dial goes to the page where only that dial is turned; where there is none, to the one
where all others stand as at first; where there is none either, the position is not offered.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

from aqviz import text
from aqviz.core import Core
from aqviz.static.parts import Content, Dial, Lesson, Option, View
from aqviz.text import TITLES
from quantcore.errors import InputError

LESSONS = "Lesson"
UNZIPPED = "learn"  # nothing of it was recorded
Position = tuple[int, ...]  # of every dial


class Link(NamedTuple):
    """A way to another page; `here` on the page itself."""

    words: str
    file: str
    here: bool


class Choice(NamedTuple):
    """What one dial offers."""

    label: str
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        file: Its name.
        view: Of the app.
        title: For the window.
        words: The name of the words at its top.
        choices: What leads to the view's other pages.
        content: What it shows.
        zip: The name of the zip with everything, where there is one.
        zipped: The state that is in it.
    """

    file: str
    view: str
    title: str
    words: str
    choices: tuple[Choice, ...]
    content: Content
    zip: str = ""
    zipped: Any = None


@dataclass(frozen=True)
class Turned:
    """A view with its dials.

    Attributes:
        view: The view.
        dials: Its dials.
    """

    view: View
    dials: tuple[Dial, ...]

    @property
    def first(self) -> Position:
        """Where the dials stand when the view is opened."""
        return tuple(dial.first(self.view.first) for dial in self.dials)

    def state(self, position: Position) -> Any:
        """The view's state; an InputError where it cannot be."""
        turned = zip(self.dials, position, strict=True)
        changes = [dial.options[at].changes for dial, at in turned]
        return replace(self.view.first, **{k: v for change in changes for k, v in change.items()})

    def positions(self) -> Iterator[Position]:
        """All in which the dials may stand, as far as the dials say."""
        for position in product(*(range(len(dial.options)) for dial in self.dials)):
            moved = [at != first for at, first in zip(position, self.first, strict=True)]
            alone = any(dial.alone for dial, one in zip(self.dials, moved, strict=True) if one)
            if sum(moved) <= 1 or not alone:
                yield position

    def kept(self, position: Position) -> Position:
        """The position whose zip has what is shown here."""
        turned = zip(self.dials, position, self.first, strict=True)
        return tuple(at if dial.zipped else first for dial, at, first in turned)

    def name(self, position: Position) -> str:
        """What a position's page is called, without the ending."""
        return "-".join(
            [self.view.stem or self.view.name, *(one.slug for one in self._moved(position))]
        )

    def words(self, position: Position) -> str:
        """What was chosen, in words; nothing at first."""
        return ", ".join(one.words for one in self._moved(position))

    def _moved(self, position: Position) -> list[Option]:
        turned = zip(self.dials, position, self.first, strict=True)
        return [dial.options[at] for dial, at, first in turned if at != first]


def pages(core: Core, views: tuple[View, ...]) -> Iterator[Page]:
    """Every page of the views, a view's first one before its others."""
    numbers = {
        view.first.lesson: view.stem for view in views if view.name == "learn"
    }  # of the lessons, the beginnings of their files' names
    for view in views:
        turned = Turned(view, view.dials())
        shown = contents(core, turned)
        for position in dict.fromkeys([turned.first, *shown]):
            yield _page(turned, position, shown, numbers)


def contents(core: Core, turned: Turned) -> dict[Position, Content]:
    """What is shown in every position that can be; the first must.

    Raises:
        InputError: the view's first state cannot be shown.
    """
    found = {}
    for position in turned.positions():
        try:
            found[position] = turned.view.content(core, turned.state(position))
        except InputError:  # such as a model beside itself
            if position == turned.first:
                raise
    return found


def _page(
    turned: Turned,
    position: Position,
    shown: Mapping[Position, Content],
    lessons: Mapping[int, str],
) -> Page:
    view, content = turned.view, shown[position]
    kept = turned.kept(position)
    choices = [
        Choice(dial.label, links)
        for n, dial in enumerate(turned.dials)
        if len(links := _links(turned, position, n, shown)) > 1
    ]
    names = [TITLES[view.name], turned.words(position)]
    if isinstance(content.parts[0], Lesson):
        number = content.parts[0].number
        names.insert(1, text.read(f"lesson_{number}").title)
        choices.insert(0, _among(lessons, number))
    return Page(
        file=f"{turned.name(position)}.html",
        view=view.name,
        title=", ".join(filter(None, names)),
        words=view.words,
        choices=tuple(choices),
        content=content,
        zip="" if view.name == UNZIPPED else f"aqviz-{turned.name(kept)}.zip",
        zipped=turned.state(kept),
    )


def _links(
    turned: Turned, position: Position, n: int, shown: Mapping[Position, Content]
) -> tuple[Link, ...]:
    """The positions that one dial offers from here."""
    links = []
    for at, option in enumerate(turned.dials[n].options):
        wanted = [(*base[:n], at, *base[n + 1 :]) for base in (position, turned.first)]
        target = next((one for one in wanted if one in shown), None)
        if target is not None:
            links.append(Link(option.words, f"{turned.name(target)}.html", at == position[n]))
    return tuple(links)


def _among(lessons: Mapping[int, str], number: int) -> Choice:
    """The way to the other lessons."""
    return Choice(
        LESSONS,
        tuple(
            Link(f"{one}. {text.read(f'lesson_{one}').title}", f"{stem}.html", one == number)
            for one, stem in lessons.items()
        ),
    )
