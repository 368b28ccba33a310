"""The static twin: its pages, what they hold beside what the app shows, and how it is written."""

import json
import re
import zipfile
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qsl

import pytest
from documents import engine

from aqviz import app, evaluations, inside, permalink, recordings
from aqviz.evidence import gaps
from aqviz.shown import basins, bundles, learn, paper, perplexity, rho, search
from aqviz.shown import inside as inside_view
from aqviz.shown import map as layers
from aqviz.shown.basins import Basins
from aqviz.shown.inside import Inside
from aqviz.shown.learn import LESSONS, Dial, Learn
from aqviz.shown.map import MapState
from aqviz.shown.perplexity import Perplexity
from aqviz.shown.race import show_recording
from aqviz.shown.rho import RhoState
from aqviz.shown.search import SearchState
from aqviz.static import contents, folder, lessons, render
from aqviz.static.pages import Turned
from aqviz.static.views import views
from aqviz.text import TITLES
from quantcore.errors import InputError

slow = pytest.mark.slow
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Read(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.links, self.ids, self.headings, self.current = [], [], [], []
        self.figures, self.open, self.choices = {}, [], []
        self.feed(markup)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID and not (self.open and self.open[0] == "svg"):
            self.open.append(tag)
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "aria-current" in given:
            self.current.append((given["aria-current"], given.get("href")))
        if given.get("class") == "choice":
            self.choices.append([])
        elif tag == "a" and self.choices:
            self.choices[-1].append((given.get("href"), "aria-current" in given))
        self._json = given.get("type") == "application/json"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script" and self._json:
            self.figures[self.ids[-1].removeprefix("plot-")] = json.loads(data)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


@pytest.fixture(scope="session")
def read(twin):
    """Every page, read, by its file's name."""
    return {
        path.name: Read(re.sub(r"<svg.*?</svg>", "", path.read_text(), flags=re.DOTALL))
        for path in sorted(twin.glob("*.html"))
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The app's core over the recordings, without a job."""
    core = app.make_core(engine(), tmp_path_factory.mktemp("jobs"))
    assert core.ready.wait(5)
    yield core
    core.store.close()


@slow
def test_every_view_has_a_page_and_every_page_the_same_navigation(read):
    for name in TITLES:
        assert f"{name}.html" in read
    for name, page in read.items():
        assert [link for link in page.links if link in {f"{view}.html" for view in TITLES}][
            : len(TITLES)
        ] == [f"{view}.html" for view in TITLES], name
        view = name.removesuffix(".html").partition("-")[0]
        here = "index.html" if view == "index" else f"{view}.html"
        assert [link for kind, link in page.current if kind == "page"] == [here]


@slow
def test_every_relative_link_leads_to_a_file_of_the_site(read, twin):
    there = {path.name for path in twin.iterdir()}
    for name, page in read.items():
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.ids, (name, link)
            elif not link.startswith(("https://arxiv.org/", "data:")):
                assert link in there, (name, link)
    assert {link for page in read.values() for link in page.links} >= there - {folder.LIST}, (
        "a file that nothing leads to"
    )


@slow
def test_headings_go_down_one_by_one_and_names_are_used_once(read):
    for name, page in read.items():
        assert page.headings.count(1) == 1, name
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert all(below - above <= 1 for above, below in steps), (name, page.headings)
        assert len(page.ids) == len(set(page.ids)), name


@slow
def test_a_choice_has_one_position_that_is_the_page_s_own(read):
    for name, page in read.items():
        for links in page.choices:
            (here,) = [link for link, here in links if here]
            lesson = here.startswith("learn") and len(links) == len(LESSONS)  # back to its first
            assert here == name or lesson, name
            assert len({link for link, _ in links}) == len(links) > 1


@slow
def test_a_position_that_cannot_be_leads_to_the_nearest_page_or_is_not_offered(read):
    first, others = read["perplexity.html"], read["perplexity-2x6g8-greedy-with-beam.html"]
    scheme, models, beside, _ = first.choices
    assert len(models) == 6  # of 2x8g8, none with the beam
    assert ("perplexity-2x6g8.html", False) in scheme
    assert ("perplexity.html", False) in others.choices[0]
    assert len(others.choices[1]) == 10
    beside_greedy = read["perplexity-greedy.html"].choices[2]
    assert ("perplexity-greedy-beside-greedy.html", False) not in beside_greedy
    assert len(beside) == 2
    assert "inside-greedy-3x8g8.html" not in read
    assert ("inside-3x8g8.html", False) in read["inside-greedy.html"].choices[2]


def shows(core):
    """Page -> figures by name, as the app's functions for the same state give them."""
    everything = recordings.studies()
    mapped = layers.show(core, MapState(colour="kurtosis"), everything["map"])[1]
    found = layers.show(core, MapState(), everything["map"])[1]
    ground = Basins(codes="fixed_b", text="heldout")
    plane, line, *_ = basins.show_landscape(ground, everything["landscape"])
    grid = search.show(SearchState(shown="feedback-descent"), everything["frontier"])
    regimes = rho.show(
        RhoState(search="feedback-descent", model="Llama 3.1 70B", layer="down"),
        gaps(rho.recorded()),
    )
    whole = perplexity.show(Perplexity("models-2x6g8", "oa-em-tuned", "greedy", 2))
    group = inside_view.show(inside.read(), Inside("greedy", 0, 36))
    race = show_recording(everything["down_proj_beam"])
    names = ("trace", "ends", "perplexity", "usage", "spread")
    return {
        "race-down-proj-beam": {name: getattr(race, name) for name in names},
        "map-kurtosis": {"layer_map": mapped},
        "map": {"layer_map": found},
        "basins-fixed-b-heldout": {
            "plane": plane,
            "line": line,
            "starts": basins.show_starts(ground, everything["starts"])[0],
        },
        "search-feedback-descent": {"frontier": grid[2], "search_grid": grid[1]},
        "rho-feedback-descent-llama-3-1-70b-down": {"rho": regimes[0], "rho_regimes": regimes[2]},
        "perplexity-2x6g8-oa-em-tuned-beside-greedy-window2": {
            name: getattr(whole, name) for name in ("models", "pairs", "tokens", "kl", "tuning")
        },
        "inside-greedy-row0-group36": {
            f"inside_{name}": getattr(group, name)
            for name in ("map", "group", "bytes", "tables", "counts")
        },
        "learn-3-books3-words8-points16": {
            "lesson-3": learn.drawing(Learn(lesson=3, books=3, words=8, points=16))
        },
    }


@slow
def test_figures_are_those_that_the_app_shows_of_the_same_state(read, kept):
    for name, figures in shows(kept).items():
        wanted = {figure: json.loads(drawn) for figure, drawn in figures.items()}
        assert read[f"{name}.html"].figures == wanted, name


@slow
def test_panels_are_those_that_the_app_shows(twin, kept):
    def page(name: str) -> str:
        return (twin / f"{name}.html").read_text()

    race = show_recording(recordings.read("down_proj"))
    assert race.results in page("race-down-proj")
    assert race.headline in page("race-down-proj")
    assert unescape(race.python) in unescape(page("race-down-proj"))
    assert paper.claims(paper.recorded()) in page("paper")
    assert paper.paper_table(paper.PaperState("5")) in page("paper-5")
    whole = perplexity.show(Perplexity("models-2x6g8"))
    for part in (whole.about, whole.verdicts, whole.text, whole.worst, whole.replies):
        assert part in page("perplexity-2x6g8")
    assert unescape(whole.command) in unescape(page("perplexity-2x6g8"))


@slow
def test_the_numbers_of_a_figure_are_those_of_the_recording(twin):
    heads, *rows = numbers((twin / "perplexity.html").read_text(), "Perplexity of the whole model")
    place = heads.index("perplexity")
    document = evaluations.read("models-2x8g8")
    wanted = {
        model.label: model.entry["perplexity"]["value"]
        for model in evaluations.models(document).values()
    }
    found = {row[0]: float(row[place]) for row in rows}
    assert found == {label: float(f"{value:.4g}") for label, value in wanted.items()}


def numbers(page: str, title: str) -> list[list[str]]:
    """The cells, as words, of the folded table under a figure of that title."""
    begun = page.index(f"<caption>{title}, in numbers</caption>")
    table = page[begun : page.index("</table>", begun)]
    rows = [
        re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>.*?</tr>", table)
    ]
    return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in row] for row in rows]


@slow
def test_a_zip_is_the_one_that_the_app_gives(twin, kept):
    query = permalink.encode("map", MapState())
    given = bundles.zip_of(kept, dict(parse_qsl(query)), query)
    assert (twin / "aqviz-map.zip").read_bytes() == given
    with zipfile.ZipFile(twin / "aqviz-race-down-proj-beam.zip") as archive:
        assert json.loads(archive.read("trace.json")) == recordings.read("down_proj_beam")
    with zipfile.ZipFile(twin / "aqviz-perplexity-2x6g8.zip") as archive:
        assert json.loads(archive.read("trace.json")) == evaluations.read("models-2x6g8")


@slow
def test_nothing_names_this_machine_or_asks_for_a_server(twin):
    for path in twin.glob("*.html"):
        page = path.read_text()
        assert "gradio_api" not in page
        assert str(app.HERE.parent) not in page
        assert not re.search(r"Press Run|<button[^>]*>Run", page), path.name


@slow
def test_the_list_names_every_file_and_all_is_small_enough(twin):
    names = {path.name for path in twin.iterdir()}
    listed = json.loads((twin / folder.LIST).read_text())["files"]
    assert set(listed) == names - {folder.LIST}
    assert sum(path.stat().st_size for path in twin.iterdir()) < 64e6


def test_every_state_has_a_file_of_its_own():
    every = [Turned(view, view.dials()) for view in views()]
    names = [turned.name(position) for turned in every for position in turned.positions()]
    assert len(names) == len(set(names)) > 300


def test_the_first_page_says_whole_sentences_the_first_in_any_case():
    assert folder.begun("One. Two 0.5. " + "x" * folder.MOST) == "One. Two 0.5."
    assert folder.begun("x" * 2 * folder.MOST + ". One.") == "x" * 2 * folder.MOST + "."


def test_a_lesson_s_positions_are_of_its_dials_and_hold_the_first():
    sliders = {
        name: dial
        for lesson in LESSONS.values()
        for name, dial in lesson.dials.items()
        if isinstance(dial, Dial)
    }
    assert set(lessons.POSITIONS) == set(sliders)
    for name, positions in lessons.POSITIONS.items():
        assert getattr(Learn(), name) in positions
        for value in positions:
            sliders[name].check(name, value)


def test_every_number_of_words_is_safe_inside_a_page():
    drawn = json.dumps({"layout": {"height": 1, "meta": {"alt": "</script><!-- & <b>"}}})
    page = render._drawing("one", drawn, "One")
    assert page.count("</script>") == 1
    assert "<!--" not in page
    assert "<b>" not in page.replace(re.search("<script.*</script>", page)[0], "")
    assert Read(page).figures == {"one": json.loads(drawn)}


@pytest.fixture
def small(monkeypatch):
    """Only the pages of two views: a study's, with its zip, and a lesson."""
    kept = [view for view in views() if view.stem == "learn" or view.name == "search"]
    monkeypatch.setattr(folder, "views", lambda: tuple(kept))


@slow
def test_the_same_recordings_give_the_same_bytes(small, tmp_path):
    for name in ("one", "other"):
        folder.write(tmp_path / name)
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "other")
    )
    assert len(one) > 30
    assert one == other


@pytest.fixture
def empty(monkeypatch):
    """A site of next to nothing."""
    monkeypatch.setattr(folder, "_files", lambda core: iter([("index.html", "<p>here</p>")]))


def test_a_new_an_empty_and_an_earlier_folder_are_taken(empty, tmp_path):
    place = tmp_path / "deep" / "site"
    assert folder.write(place) == (1, 2, 11 + (place / folder.LIST).stat().st_size)
    (place / "index.html").write_text("changed")
    folder.write(place)
    assert (place / "index.html").read_text() == "<p>here</p>"
    bare = tmp_path / "bare"
    bare.mkdir()
    folder.write(bare)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "deep"]


def test_what_this_program_did_not_write_is_left_alone(empty, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"'thesis.txt', which is of no earlier site.* new folder"):
        folder.write(tmp_path)
    with pytest.raises(InputError, match="is a file and the site is a folder"):
        folder.write(tmp_path / "thesis.txt")
    place = tmp_path / "site"
    folder.write(place)
    (place / ".git").mkdir()
    with pytest.raises(InputError, match=r"'\.git', which is of no earlier site"):
        folder.write(place)
    (place / ".git").rmdir()
    for broken in ("", "[]", '{"files": 3}'):
        (place / folder.LIST).write_text(broken)
        with pytest.raises(InputError, match="of no earlier site"):
            folder.write(place)
    with pytest.raises(InputError, match=r"cannot be written: .*; name another one"):
        folder.write(tmp_path / "thesis.txt" / "below")


def test_an_interrupted_write_leaves_what_was_there(empty, tmp_path, monkeypatch):
    place = tmp_path / "site"
    folder.write(place)

    def half(core):
        yield "index.html", "half"
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "_files", half)
    with pytest.raises(KeyboardInterrupt):
        folder.write(place)
    assert (place / "index.html").read_text() == "<p>here</p>"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_without_a_recording_there_is_nothing_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "studies", dict)
    with pytest.raises(InputError, match="the race 'first' is not among the recordings; run"):
        folder.write(tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_and_refuses_in_a_sentence(empty, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setattr("sys.argv", ["aqviz", "static", "--out", str(tmp_path / "site")])
    with caplog.at_level("INFO"):
        app.main()
    assert "1 pages, 2 files" in caplog.text
    (tmp_path / "site" / "mine.txt").touch()
    with pytest.raises(SystemExit):
        app.main()
    assert "holds 'mine.txt'" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["aqviz", "static"])
    with pytest.raises(SystemExit):
        app.main()
    assert "--out" in capsys.readouterr().err


def test_without_a_word_the_command_serves(monkeypatch):
    served = {}
    monkeypatch.setattr(app, "make_core", lambda: None)
    monkeypatch.setattr(app, "build", lambda core: None)
    monkeypatch.setattr(app, "serve", lambda demo, core, **launch: served.update(launch))
    monkeypatch.setattr("sys.argv", ["aqviz", "--port", "7861", "--no-browser"])
    app.main()
    assert (served["server_port"], served["inbrowser"]) == (7861, False)


def test_races_begin_with_the_one_that_the_app_opens_on():
    assert next(iter(contents.races())) == recordings.FIRST
    assert len(contents.races()) == 4
