"""A page as HTML: navigation, dials, words, figures with their numbers, what makes them again.

The classes are those of app.css and styles/, so that the twin looks like the app; site.css adds
what Gradio brings there.
"""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from string import Template
from typing import Any

from aqviz import text
from aqviz.shown.tables import table
from aqviz.static.pages import Choice, Page
from aqviz.static.parts import Bare, Figure, Folded, Lesson, Panel, Part, Row
from aqviz.text import TITLES

INDEX = "index.html"
ROWS = 250  # of a figure's table that are on the page
DIGITS = 4  # significant, in such a table
HERE = re.compile(r'href="\?view=(\w+)"')  # the words' links to views
PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title · aqviz</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="aqviz.css">
</head>
<body>
<a class="skip" href="#main">Skip to the page</a>
<header class="top">
<p class="brand"><a href="$index"$home>aqviz</a></p>
<div id="theme"><button type="button" class="theme" aria-label="switch light and dark">◐</button>\
</div>
<nav class="views" aria-label="Views"><ul>$views</ul></nav>
</header>
<script src="look.js"></script>
<main id="main">
<h1>$heading</h1>
<div class="lead">$lead</div>
<p class="note server">$note</p>
$body
</main>
<script src="plotly.min.js"></script>
<script src="draw.js"></script>
</body>
</html>
""")
FIGURE = Template("""\
<div class="drawing" id="plot-$name">
<div class="plot" style="height:${height}px"></div>
<p class="told">$told</p>
<div class="tools"></div>
<script type="application/json">$json</script>
</div>
$numbers""")


def page(shown: Page) -> str:
    """A page of a view."""
    words = text.read(shown.words)
    lesson = isinstance(shown.content.parts[0], Lesson)
    body = "".join(_part(one, shown.choices) for one in shown.content.parts)
    return _whole(
        title=shown.title,
        heading=words.title,
        lead=words.body,
        body=_dials(shown.choices[: 1 if lesson else None])
        + f'<div class="board">\n{body}{_again(shown)}</div>',
        view=shown.view,
    )


def front(told: Mapping[str, tuple[str, str]]) -> str:
    """The first page: every view with its question and what was found.

    Args:
        told: View -> its question, and what its data say.
    """
    words = text.read("twin")
    items = "".join(
        f'<li class="card"><h2><a href="{view}.html">{TITLES[view]}</a></h2>'
        f"<p><b>{escape(question)}</b></p><p>{escape(found)}</p></li>"
        for view, (question, found) in told.items()
    )
    body = f'<ul class="contents">{items}</ul>'
    return _whole(title=words.title, heading=words.title, lead=words.body, body=body, view="")


def rendered(markdown: str) -> str:
    """Our own words as HTML; their links to views lead to the views' pages."""
    return HERE.sub(r'href="\1.html"', text.rendered(markdown))


def _whole(title: str, heading: str, lead: str, body: str, view: str) -> str:
    views = "".join(
        f'<li><a href="{name}.html"{_current(name == view, "page")}>{escape(words)}</a></li>'
        for name, words in TITLES.items()
    )
    return PAGE.substitute(
        title=escape(title),
        index=INDEX,
        home=_current(not view, "page"),
        views=views,
        heading=escape(heading),
        lead=rendered(lead),
        body=body,
        note=rendered(text.read("twin_note").body).removeprefix("<p>").removesuffix("</p>\n"),
    )


def _part(part: Part, choices: tuple[Choice, ...]) -> str:
    match part:
        case Row(parts, look):
            inner = "".join(_part(one, choices) for one in parts)
            return f'<div class="{look}">\n{inner}</div>\n'
        case Figure(name, drawn, above):
            words = text.read(name)
            return (
                f'<section class="card figure">\n<h2>{escape(words.title)}</h2>\n{above}'
                f"{_drawing(name, drawn, words.title)}{_caption(words.body)}</section>\n"
            )
        case Panel(html, title, id, words):
            heading = f"<h2>{escape(title)}</h2>\n" if title else ""
            told = _caption(text.read(words).body) if words else ""
            return f'<section class="card"{_id(id)}>\n{heading}{told}{html}</section>\n'
        case Bare(html):
            return f"<div>{html}</div>\n"
        case Folded(name):
            words = text.read(name)
            return (
                f'<details class="card glossary"><summary>{escape(words.title)}</summary>'
                f"{rendered(words.body)}</details>\n"
            )
        case Lesson(number, drawn):
            return _lesson(number, drawn, choices[1:])


def _lesson(number: int, drawn: str, choices: Iterable[Choice]) -> str:
    words, name = text.read(f"lesson_{number}"), f"lesson-{number}"
    dials = "".join(map(_dial, choices))
    return (
        f'<section class="card figure lesson">\n<h2 class="title">{number}. '
        f'{escape(words.title)}</h2>\n<nav class="dials" aria-label="Dials of the lesson">'
        f'{dials}</nav>\n<div class="drawn">{_drawing(name, drawn, words.title)}</div>'
        f'<div class="words">{rendered(words.body)}</div></section>\n'
    )


def _drawing(name: str, drawn: str, title: str) -> str:
    layout = json.loads(drawn)["layout"]
    return FIGURE.substitute(
        name=name,
        height=layout["height"],
        told=escape(layout["meta"]["alt"]),
        json=drawn.replace("</", "<\\/").replace("<!--", "<\\u0021--"),
        numbers=_numbers(layout["meta"].get("table"), title),
    )


def _numbers(found: Mapping[str, Any] | None, title: str) -> str:
    """A figure's numbers, folded."""
    if not found:
        return ""
    rows, count = found["rows"][:ROWS], len(found["rows"])
    more = f'<p class="note">The first {ROWS} of {count} rows; CSV has all.</p>'
    made = table(f"{title}, in numbers", found["columns"], [_shortened(row) for row in rows])
    return (
        f'<details class="in-numbers"><summary>Numbers as a table</summary>{made}'
        f"{more if count > ROWS else ''}</details>\n"
    )


def _shortened(row: Iterable[Any]) -> list[Any]:
    return [float(f"{cell:.{DIGITS}g}") if isinstance(cell, float) else cell for cell in row]


def _caption(markdown: str) -> str:
    return f'<div class="block caption"><div class="prose">{rendered(markdown)}</div></div>\n'


def _dials(choices: Iterable[Choice]) -> str:
    made = "".join(map(_dial, choices))
    return f'<nav class="card states" aria-label="What is shown">{made}</nav>\n' if made else ""


def _dial(choice: Choice) -> str:
    links = "".join(
        f'<li><a href="{one.file}"{_current(one.here, "true")}>{escape(one.words)}</a></li>'
        for one in choice.links
    )
    return f'<div class="choice"><p>{escape(choice.label)}</p><ul>{links}</ul></div>'


def _again(shown: Page) -> str:
    """The command, the Python lines and the zip."""
    content, made = shown.content, ""
    for words, code in (("on the command line", content.command), ("in Python", content.python)):
        if code:
            made += (
                f"<h3>The same {words}</h3>\n<pre tabindex='0' role='region' "
                f"aria-label='the same {words}'><code>{escape(code)}</code></pre>\n"
            )
    if shown.zip:
        made += (
            f'<p class="files"><a class="file" href="{shown.zip}" download>'
            "Download everything (zip)</a></p>\n"
        )
    title = "<h2>Repeat, keep, share</h2>\n"
    return f'<section class="card repeat">\n{title}{made}</section>\n' if made else ""


def _current(here: bool, kind: str) -> str:
    return f' aria-current="{kind}"' if here else ""


def _id(name: str) -> str:
    return f' id="{name}"' if name else ""
