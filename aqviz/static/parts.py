"""What a page of the twin is made of; figures are the JSON that the app draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aqviz.core import Core


@dataclass(frozen=True)
class Figure:
    """A figure under the words of its name, with HTML of its own above it."""

    name: str
    json: str
    above: str = ""


@dataclass(frozen=True)
class Panel:
    """A card of HTML, under a title and the words of a name where there are some."""

    html: str
    title: str = ""
    id: str = ""
    words: str = ""


@dataclass(frozen=True)
class Bare:
    """HTML on the page itself."""

    html: str


@dataclass(frozen=True)
class Folded:
    """The words of a name, folded away until they are wanted."""

    words: str


@dataclass(frozen=True)
class Lesson:
    """A lesson: its figure, dials and words in one card."""

    number: int
    json: str


@dataclass(frozen=True)
class Row:
    """Parts side by side."""

    parts: tuple["Part", ...]
    look: str = "figures"


Part = Figure | Panel | Bare | Folded | Lesson | Row


@dataclass(frozen=True)
class Content:
    """What a view shows of a state, and how to get the same again."""

    parts: tuple[Part, ...]
    command: str = ""
    python: str = ""


@dataclass(frozen=True)
class Option:
    """One position of a dial: its name in a file's name, in words, and the fields that it sets."""

    slug: str
    words: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Dial:
    """A choice among a few states.

    Attributes:
        label: What is chosen.
        options: The positions; that of the view's first state is one of them.
        alone: Whether it is turned only where every other dial is in its first position.
        zipped: Whether its positions have zips of their own.
    """

    label: str
    options: tuple[Option, ...]
    alone: bool = False
    zipped: bool = False

    @classmethod
    def of(cls, label: str, field: str, options: Mapping[Any, str], **more: bool) -> "Dial":
        """Over one field; numbers are named with it, words by themselves."""
        made = (
            Option(_slug(field, value), words, {field: value}) for value, words in options.items()
        )
        return cls(label, tuple(made), **more)

    def first(self, state: Any) -> int:
        """The position in which a state has it."""
        return next(
            i
            for i, option in enumerate(self.options)
            if all(getattr(state, name) == value for name, value in option.changes.items())
        )


@dataclass(frozen=True)
class View:
    """A view: its states and what it shows of one.

    Attributes:
        name: In the app's links, and in the files' names.
        first: The state it opens on.
        dials: Makes what can be chosen, from what is recorded.
        content: A state -> what is shown; refuses a state that cannot be with an InputError.
        words: The name of the words at its top.
        stem: What its files' names begin with, where that is not the view's name.
    """

    name: str
    first: Any
    dials: Callable[[], tuple[Dial, ...]]
    content: Callable[[Core, Any], Content]
    words: str = ""
    stem: str = ""


def _slug(field: str, value: Any) -> str:
    named = value if isinstance(value, str) else f"{field}{value:g}"
    return "-".join("".join(c if c.isalnum() else " " for c in named.lower()).split())
