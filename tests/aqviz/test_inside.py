import json
import random
import re
from dataclasses import replace

import documents
import gradio as gr
import models
import pytest
import torch
from plotly import graph_objects as go

from aqviz import commands, inside, permalink, text, theme
from aqviz.figures import inside_bytes, inside_counts, inside_group, inside_map, inside_tables
from aqviz.inside import Example
from aqviz.jobs import Job, State
from aqviz.shown import inside as inside_view
from aqviz.shown import inside_numbers
from aqviz.shown.inside import Inside, show
from aqviz.shown.race import LOOK, show_job
from aqviz.store import Place
from aqviz.tabs import inside as tab
from quantcore import corpora, experiment, files, results, sources
from quantcore.errors import InputError, SchemeError, SourceError
from quantcore.experiment import Experiment
from quantcore.ledger import plan
from quantcore.weight import AdditiveWeight, Scheme

FACTS = {
    "layer": {"name": "h.0.q", "block": 0, "projection": "q", "out": 6, "columns": 4},
    "inits": ["greedy", "oa-em"],
    "errors": {"greedy": 0.01, "oa-em": 0.009},
    "parameters": 120,
    "blocks": [{"q": [6, 4], "down": [4, 6]}] * 2,
    "token": "<b>",
    "context": "a & b",
    "config": {"layer": "h.0.q", "scheme": {"codebooks": 2, "bits": 2, "group": 2}},
    "model": {"note": "A <small> model."},
    "text": {"note": "Invented."},
    "versions": {},
    "machine": {},
    "date": "2026-11-22T00:00:00+00:00",
}
PLACE = {"row": 2, "group": 1, "step": 1, "scheme": "1x2g2"}


def weight(rng: torch.Generator, rows: int = 3) -> AdditiveWeight:
    """Two books of four words, two groups of two."""
    return AdditiveWeight(
        torch.randint(0, 4, (rows, 2, 2), generator=rng, dtype=torch.int32),
        torch.randn(2, 4, 2, generator=rng).half().float(),
        torch.randn(rows, generator=rng).half().float(),
    )


@pytest.fixture
def example(rng) -> Example:
    roots = torch.randn(2, 2, 2, generator=rng)
    return Example(
        weight=torch.randn(3, 4, generator=rng).half().float(),
        blocks=roots @ roots.mT,
        inputs=torch.randn(4, generator=rng),
        versions={"greedy": weight(rng), "oa-em": weight(rng)},
        totals={"greedy": torch.rand(3, generator=rng), "oa-em": torch.rand(3, generator=rng)},
        facts=FACTS,
    )


# --- the example ---------------------------------------------------------------------------------


def test_a_groups_error_is_its_difference_in_its_block(example):
    dense = example.versions["oa-em"].dense()
    found = example.errors("oa-em")
    for o in range(3):
        for j in range(2):
            d = (example.weight - dense)[o, 2 * j : 2 * j + 2].double()
            h = example.blocks[j].double()
            wanted = sum(d[i] * h[i, k] * d[k] for i in range(2) for k in range(2))
            torch.testing.assert_close(found[o, j].double(), wanted, rtol=1e-4, atol=1e-6)


def test_what_is_kept_is_read_again(example, tmp_path):
    path = tmp_path / "example.safetensors"
    inside.write(example, path)
    found = inside.read(path)
    assert found.facts == example.facts
    assert (found.rows, found.groups) == (3, 2)
    torch.testing.assert_close(found.weight, example.weight)
    torch.testing.assert_close(found.blocks, example.blocks)
    torch.testing.assert_close(found.inputs, example.inputs)
    for init, version in example.versions.items():
        torch.testing.assert_close(vars(found.versions[init]), vars(version))
        torch.testing.assert_close(found.totals[init], example.totals[init])


def test_no_example_and_a_damaged_one_are_none(tmp_path):
    assert inside.read(tmp_path / "none.safetensors") is None
    (tmp_path / "cut.safetensors").write_bytes(b"12345678")
    assert inside.read(tmp_path / "cut.safetensors") is None


def test_the_outline_counts_as_the_model_does(example):
    found = example.model
    assert sum(value.numel() for value in found.parameters()) == 120
    planned = plan(found, Scheme(1, 2, 2))
    assert [(one.info.out, one.info.columns) for one in planned] == [(6, 4), (4, 6)] * 2


def test_an_experiment_on_a_model_becomes_an_example(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    letters = random.Random(0)
    lines = ("".join(letters.choices(models.LETTERS[:-1], k=44)) for _ in range(30))
    (tmp_path / "text.txt").write_text("\n".join(lines))
    config = Experiment(
        model=str(models.save_model(tmp_path / "model")),
        layer="model.layers.1.self_attn.q_proj",
        scheme=Scheme(2, 2, 4),
        sweeps=1,
        text=str(tmp_path / "text.txt"),
        calibration_tokens=96,
        heldout_tokens=48,
        window=12,
        perplexity_windows=0,
    )
    made = inside.take(config, experiment.run(config, lambda progress, document: None))
    layer, model = made.layer, models.tiny_llama()
    torch.testing.assert_close(
        made.weight, model.get_submodule(layer.name).weight.detach(), rtol=1e-3, atol=1e-3
    )
    assert (layer.out, layer.columns, layer.block) == (16, 16, 1)
    assert made.facts["parameters"] == sum(value.numel() for value in model.parameters())
    blocks = made.facts["blocks"]
    assert (len(blocks), blocks[2]["mlp.down_proj"]) == (3, [16, 24])
    seen, loaded = [], sources.load(sources.resolve(config.model))
    words, _ = corpora.load_text(config.text, "evaluation")
    ids = corpora.windows(loaded.tokenizer, words, inside.TOKENS, 1)
    model.get_submodule(layer.name).register_forward_pre_hook(lambda _, given: seen.append(given))
    model(input_ids=ids)
    torch.testing.assert_close(made.inputs, seen[0][0][0, -1], rtol=1e-3, atol=1e-3)
    for init in ("greedy", "oa-em"):
        assert made.versions[init].scheme == config.scheme
        assert made.totals[init].mean().item() > 0
    inside.write(made, tmp_path / "kept.safetensors")
    kept = inside.read(tmp_path / "kept.safetensors").facts
    assert kept == json.loads(json.dumps(made.facts))


def test_a_files_layer_can_be_opened_with_inputs_as_large_as_its_hessian_says(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    tensors = {
        "a.weight": torch.randn(300, 4),
        "a.hessian": torch.diag(torch.tensor([1.0, 4, 9, 0])),
    }
    files.write_tensors(tmp_path / "layers.safetensors", tensors)
    config = Experiment(problem="mine", layer="a", scheme=Scheme(1, 9, 2), sweeps=1)
    document = experiment.run(
        config, lambda *_: None, locate=lambda _: tmp_path / "layers.safetensors"
    )
    inside.keep(config, document, lambda _: tmp_path / "layers.safetensors")
    found = inside.find(document["key"])
    drawn = torch.randn(4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.inputs, drawn * torch.tensor([1.0, 2, 3, 0]))
    assert found.facts["token"] is None
    assert (found.layer.name, found.facts["parameters"]) == ("a", 1200)
    kept = results.load_weight(results.weight_path(document["key"], "oa-em", 0))
    assert torch.equal(
        found.versions["oa-em"].codes, kept.codes[: inside.ROWS]
    )  # of more than eight bits


def test_what_is_not_there_to_be_opened_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path))
    with pytest.raises(SourceError, match="nothing of a finished comparison 0123456789 is kept"):
        inside.find("0123456789")
    with pytest.raises(InputError, match=r"key is made of the digits 0-9 and a-f, got '\.\./"):
        inside.find("../../etc")


def test_a_comparison_is_finished_though_nothing_can_be_opened_of_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path))
    config = Experiment(problem="mine", layer="a")
    inside.keep(config, {"key": "0123456789"}, lambda _: tmp_path / "gone.safetensors")
    assert "nothing can be opened of the comparison 0123456789" in caplog.text


def test_the_shipped_example_is_small_whole_and_says_what_readme_says():
    shipped = inside.read()
    assert inside.PATH.stat().st_size < 400_000
    assert (shipped.rows, shipped.groups) == (inside.ROWS, 72)
    bars = inside_bytes.view_bytes(
        Scheme(2, 8, 8), shipped.layer, shipped.model, plan(shipped.model, Scheme(2, 8, 8))
    ).bars
    assert [f"{bar.mean:.2f}" for bar in bars] == ["2.00", "2.23", "2.15", "5.07", "16.00"]
    for init in shipped.versions:
        assert shipped.totals[init].mean() < 0.4 * shipped.errors(init).sum(1).mean()


def test_the_words_numbers_are_those_of_the_shipped_example():
    shipped = inside.read()
    state = Inside()

    def miss(init):
        delta = (shipped.weight - shipped.versions[init].dense()).unflatten(1, (72, -1))
        return delta.square().sum(2)

    nearer = miss("greedy") < miss("oa-em")
    cheaper = shipped.errors("greedy") < shipped.errors("oa-em")
    assert round(100 * (nearer != cheaper).float().mean().item()) == 15
    assert "in 15 % of the groups" in text.read("inside_group").body
    assert nearer[state.row, state.group]
    assert not cheaper[state.row, state.group]


# --- the figures ---------------------------------------------------------------------------------


def test_the_map_names_the_chosen_cell_its_rank_and_the_rows_error():
    errors = torch.tensor([[1.0, 100.0], [0.5, 0.0]])
    view = inside_map.view_map(errors, "greedy", 0.25, 1, 0)
    assert "row 1, group 0 has 0.5, rank 3 from the highest" in view.alt
    assert "add up to 0.5" in view.alt
    assert "error is 0.25" in view.alt
    assert view.logs[0].tolist() == [0.0, 2.0]
    assert view.table.rows == ((0, 0.5, 1.0), (1, 0.0, 0.0))


def test_a_group_worked_by_hand():
    one = AdditiveWeight(
        torch.tensor([[[0, 1]]]),
        torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[9.0, 9.0], [0.5, -1.0]]]),
        torch.tensor([2.0]),
    )
    block = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    original = torch.tensor([[4.0, 1.0]])
    view = inside_group.view_group(original, block, {"greedy": one}, 0, 0)
    (coded,) = view.versions
    assert (coded.codes, coded.words) == ((0, 1), ((1.0, 2.0), (0.5, -1.0)))
    assert (coded.sums, coded.scale, coded.coded) == ((1.5, 1.0), 2.0, (3.0, 2.0))
    assert (coded.error, coded.pull) == ((1.0, -1.0), (1.0, -2.0))
    assert (coded.own, view.energy) == (3.0, 32 + 8 + 3)
    assert coded.miss == 1.0
    assert view.table.rows[0] == (0, 4.0, 1.0, 0.5, 3.0, 1.0)
    assert "loses 7.0 %" in view.alt


def test_both_initialisers_are_drawn_on_the_same_axes(example):
    view = inside_group.view_group(example.weight, example.blocks[1], example.versions, 2, 1)
    drawing = inside_group.draw_group(view)
    assert drawing.layout.yaxis2.matches == drawing.layout.yaxis.matches == "y"
    bars = [trace for trace in drawing.data if trace.type == "bar"]
    for panel, one in zip((bars[:2], bars[2:]), view.versions, strict=True):
        sums = [sum(heights) for heights in zip(*(bar.y for bar in panel), strict=True)]
        assert sums == pytest.approx(one.coded, abs=1e-6)


def test_the_parts_of_every_bar_are_those_of_the_file():
    scheme = Scheme(2, 6, 8)
    shipped = inside.read()
    layer = shipped.layer
    view = inside_bytes.view_bytes(scheme, layer, shipped.model, plan(shipped.model, scheme))
    codes = 576 * 72 * 2
    alone, one, coded, whole, before = view.bars
    assert alone.bits == (6 * codes, 0, 0, 0, 0)
    assert one.bits == (6 * codes, 2 * codes, 2 * 64 * 8 * 16, 576 * 16, 0)
    assert before.bits[-1] == 16 * shipped.facts["parameters"]
    assert whole.bits[:4] == coded.bits[:4]
    assert whole.bits[4] == 16 * (before.weights - coded.weights)
    assert view.dense == 0


def test_layers_that_a_scheme_does_not_fit_are_counted_and_said():
    shipped = inside.read()
    scheme = Scheme(1, 15, 8)  # 32,768 words: more than the groups of k_proj and v_proj
    view = inside_bytes.view_bytes(
        scheme, shipped.layer, shipped.model, plan(shipped.model, scheme)
    )
    assert view.dense == 2 * 30
    assert "60 of its layers stay dense" in view.alt


def test_a_scheme_that_does_not_fit_the_layer_is_refused(example):
    with pytest.raises(SchemeError, match="do not divide into groups of 3"):
        show(example, Inside(row=0, group=0, scheme="1x1g3"))
    with pytest.raises(SchemeError, match="do not divide into groups of 3"):
        inside_bytes.view_bytes(Scheme(1, 1, 3), example.layer, example.model, ())


def test_looked_up_sums_are_the_products(example, rng):
    for init, version in example.versions.items():
        for row in range(3):
            view = inside_tables.view_tables(
                example.weight[row], example.inputs, version, init, row, 1
            )
            product = (version.dense()[row] @ example.inputs).item()
            assert view.sums[-1] == pytest.approx(product, rel=1e-4, abs=1e-5)
            dense = (example.weight[row] @ example.inputs).item()
            assert view.dense[-1] == pytest.approx(dense, rel=1e-4, abs=1e-5)


def test_a_step_looks_up_what_its_codes_name(example):
    version = example.versions["greedy"]
    view = inside_tables.view_tables(example.weight[2], example.inputs, version, "greedy", 2, 1)
    running = 0.0
    for j in range(2):
        for m in range(2):
            code = int(version.codes[2, j, m])
            product = sum(
                float(example.inputs[2 * j + i] * version.codebooks[m, code, i]) for i in range(2)
            )
            assert view.every[j][m] == code
            assert view.entries[j][m] == pytest.approx(product, abs=1e-5)
            running += float(version.scales[2]) * product
        assert view.sums[j] == pytest.approx(running, abs=1e-5)
    for m, code in enumerate(view.codes):
        assert view.tables[m, code] == pytest.approx(view.entries[1][m], abs=1e-6)
    assert view.table.rows[1][-2:] == (view.sums[1], view.dense[1])


def counted(scheme: Scheme, rows: int, columns: int) -> tuple[int, int, int]:
    """The product by tables in loops, every operation counted where it happens."""
    times = looks = plus = 0
    groups = columns // scheme.group
    for _ in range(groups * scheme.codebooks * scheme.size):  # one entry: a product of two groups
        times += scheme.group
        plus += scheme.group - 1
    for _ in range(rows):
        for found in range(groups * scheme.codebooks):
            looks += 1
            plus += found > 0  # the first entry is added to nothing
        times += 1
    return times, looks, plus


@pytest.mark.parametrize("scheme", [Scheme(1, 1, 2), Scheme(2, 2, 4), Scheme(3, 3, 1)], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (7, 8), (40, 12)])
def test_counts_are_those_of_the_loops(scheme, rows, columns):
    assert inside_counts.tabled_counts(scheme, rows, columns) == counted(scheme, rows, columns)
    dense = inside_counts.dense_counts(rows, columns)
    assert dense == (rows * columns, 0, rows * (columns - 1))


@pytest.mark.parametrize("scheme", [Scheme(1, 1, 2), Scheme(2, 2, 4), Scheme(2, 8, 8)], ids=str)
@pytest.mark.parametrize("columns", [8, 24, 576])
def test_tables_pay_from_the_first_row_count_that_saves_multiplications(scheme, columns):
    def saves(rows):
        with_tables = inside_counts.tabled_counts(scheme, rows, columns)
        return with_tables[0] < inside_counts.dense_counts(rows, columns)[0]

    first = next(rows for rows in range(1, 10_000) if saves(rows))
    assert inside_counts.pays_from(scheme, columns) == first


def test_with_one_input_tables_never_pay():
    assert inside_counts.pays_from(Scheme(1, 1, 1), 1) is None


def test_counts_of_the_shipped_layer():
    view = inside_counts.view_counts(Scheme(2, 8, 8), 576, 576)
    assert view.crossing == 513
    rows = {name: tuple(rest) for name, *rest in view.table.rows}
    assert rows["one row, tables made"] == (1, 144, 143, 288)
    assert rows["making the tables"][0] == 2 * 256 * 576
    assert rows["the layer, dense"][0] == 576 * 576
    assert {view.rows, view.crossing} <= set(view.numbers)


def test_every_figure_draws_and_says_what_it_is(example):
    for row, group in ((0, 0), (2, 1)):
        for init in example.versions:
            shown = show(example, Inside(init, row, group, "1x2g2", group))
            for name in ("map", "group", "bytes", "tables", "counts"):
                figure = json.loads(getattr(shown, name))
                assert len(figure["layout"]["meta"]["alt"]) > 40
                assert figure["layout"]["meta"]["table"]["rows"]
                assert "title" not in figure["layout"]


def test_no_version_is_a_sentence(example):
    view = inside_group.view_group(example.weight, example.blocks[0], {}, 0, 0)
    assert "no quantized weight" in inside_group.draw_group(view).layout.meta["alt"]


def test_an_error_of_nothing_has_a_place_on_the_map():
    view = inside_map.view_map(torch.zeros(2, 3), "oa-em", 0.0, 0, 0)
    assert inside_map.draw_map(view).to_json()


def test_sizes_in_words():
    assert inside_bytes.size(8 * 999) == "999 bytes"
    assert inside_bytes.size(8 * 1_500) == "1.5 kB"
    assert inside_bytes.size(8 * 123_400_000) == "123 MB"
    assert inside_bytes.size(8 * 2_000_000_000) == "2 GB"


@pytest.mark.parametrize("page", [theme.PAGE_LIGHT, theme.PAGE_DARK])
@pytest.mark.parametrize("colour", inside_group.BOOKS)
def test_a_codebooks_colour_stands_out_on_both_pages(colour, page):
    def luminance(of):
        parts = [int(of[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(colour), luminance(page)])
    assert (high + 0.05) / (low + 0.05) >= 3


# --- bits and numbers ----------------------------------------------------------------------------


@pytest.fixture
def view():
    shipped = inside.read()
    return inside_group.view_group(shipped.weight, shipped.blocks[28], shipped.versions, 74, 28)


def test_the_bits_are_the_codes(view):
    page = inside_numbers.stored_bits(view)
    shown = [
        int("".join(re.findall(r"<i>([01])</i>", digits)), 2)
        for digits in re.findall(r'class="digits".*?</span>', page)
    ]
    assert shown == [code for one in view.versions for code in one.codes]
    assert page.count("<i>") == 2 * 16


def test_the_arithmetic_gives_the_number_it_explains(view):
    page = inside_numbers.numbers(view, "oa-em")
    lines = [line for line in re.findall(r'data-told="([^"]*)"', page) if " = " in line]
    assert len(lines) == 8 * 5 + 1
    for line in lines:
        told, result = line.replace("−", "-").replace("×", "*").rsplit(" = ", 1)
        size = eval(re.sub(r"(?<!e)-", "+", told))  # what three digits may be off by goes with it
        assert eval(told) == pytest.approx(float(result), abs=0.02 * size)


def test_every_number_has_its_line_and_its_shown_value(view):
    page = inside_numbers.numbers(view, "greedy")
    buttons = re.findall(r'data-told="([^"]*)">([^<]*)</button>', page)
    assert len(buttons) == 8 * 8 + 1
    for told, shown in buttons:
        assert told.endswith(shown) or told.startswith(("word", "the weight"))
    assert page.count('tabindex="-1"') == len(buttons)


# --- the tab -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", [Inside(), Inside("greedy", 3, 4, "1x16g8", 5), Inside(row=0, scheme="3x8 g8")]
)
def test_a_link_brings_the_state_back(state):
    query = permalink.encode("inside", state)
    pairs = dict(part.split("=") for part in query.replace("+", " ").split("&"))
    assert permalink.decode(Inside, pairs) == state


def test_the_first_state_has_the_shortest_link():
    assert permalink.encode("inside", Inside()) == "v=1&view=inside"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"row": -1}, "row must be at least 0, got -1"),
        ({"step": -2}, "step must be at least 0"),
        ({"scheme": "two"}, "written like 2x8g8"),
        ({"scheme": "9x8g8"}, "codebooks must be 1 to 4"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Inside(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"row": 3}, "row must be 0 to 2 here, got 3"),
        ({"group": 2}, "group must be 0 to 1 here"),
        ({"step": 2}, "step must be 0 to 1 here"),
        ({"init": "none"}, "greedy or oa-em here, got 'none'"),
    ],
)
def test_what_the_example_has_not_is_refused(example, values, message):
    with pytest.raises(InputError, match=message):
        show(example, replace(Inside(**PLACE), **values))


def test_a_step_changes_the_tables_alone(example):
    one, other = (show(example, replace(Inside(**PLACE), step=step)) for step in (0, 1))
    changed = [name for name in one._fields if getattr(one, name) != getattr(other, name)]
    assert changed == ["tables", "files"]  # the zip is of this step


def test_the_python_is_python_and_names_the_group(example):
    lines = show(example, Inside(**PLACE)).python
    compile(lines, "shown", "exec")
    assert "weight.codes[2, 1], weight.dense()[2, 2:4]" in lines


def test_words_from_the_model_are_escaped(example):
    page = inside_view.kept(example) + inside_view.about(example)
    assert "a &amp; b" in page
    assert "<b>&lt;b&gt;</b>" in page
    assert "A &lt;small&gt; model." in page


def test_the_command_makes_the_run_again():
    shipped = inside.read()
    assert inside_view.command(shipped) == commands.of(
        replace(inside.RECORDED, inits=tuple(shipped.versions))
    )


@pytest.mark.parametrize(
    ("label", "step", "still", "wanted"),
    [
        ("Play", 0, False, (0, True, "Pause")),
        ("Play", 4, False, (4, True, "Pause")),
        ("Play", 9, False, (0, True, "Pause")),  # at the end: from the start
        ("Play", 4, True, (9, False, "Play")),  # no motion: the end at once
        ("Pause", 4.0, False, (4, False, "Play")),
        ("Pause", 4, True, (4, False, "Play")),
    ],
)
def test_play_and_pause(label, step, still, wanted):
    assert tab.press(label, step, still, 10) == wanted


def test_play_ends_at_the_last_step():
    assert tab.advance(0, 3) == (1, True, "Pause")
    assert tab.advance(1.0, 3) == (2, False, "Play")
    assert tab.advance(2, 3) == (2, False, "Play")


def test_a_click_on_the_map_names_row_and_group():
    clicked = gr.EventData(
        None, {"x": 5, "y": 7.0, "customdata": None, "curve": 0, "point": [7, 5]}
    )
    assert tab.picked(clicked) == (7, 5)


def components(core, example, monkeypatch):
    monkeypatch.setattr(inside, "read", lambda: example)
    with gr.Blocks(analytics_enabled=False) as page:
        tab.draw_inside(core)
    return page


def test_the_tab_is_drawn_with_every_control_named(core, monkeypatch):
    page = components(core, inside.read(), monkeypatch)
    labels = {
        block.label for block in page.blocks.values() if isinstance(block, gr.Slider | gr.Radio)
    }
    assert labels == {
        "Initialiser",
        "Row (output)",
        "Group of inputs",
        "Step: the group that is added",
    }


def test_without_an_example_the_tab_says_how_to_make_one(core, monkeypatch):
    page = components(core, None, monkeypatch)
    said = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert any(text.rendered(tab.MISSING) in words for words in said)


@pytest.mark.parametrize("name", ["map", "group", "bytes", "tables", "counts"])
def test_every_caption_has_its_three_parts(name):
    body = text.read(f"inside_{name}").body
    starts = [part.partition(".**")[0] for part in body.split("\n\n")]
    assert starts == ["**What it shows", "**How to read it", "**What to try"]


def test_what_is_shown_is_drawn_once_and_kept_with_the_example_only(example, monkeypatch):
    drawn = []
    monkeypatch.setattr(inside_view, "draw_counts", lambda view: drawn.append(view) or go.Figure())
    state = Inside(**PLACE)
    first = show(example, state)
    assert show(example, state) == first
    assert show(replace(example), state).counts == first.counts
    assert len(drawn) == 2
    monkeypatch.setattr(inside_view, "KEPT", 5)
    for step in (0, 1):
        show(example, replace(state, step=step))
    assert len(example.drawings) <= 5


# --- other comparisons than the recorded one ------------------------------------------------------


@pytest.fixture
def kept(example, tmp_path, monkeypatch):
    """The key of a comparison whose example is in the cache; a file's, so no token is known."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path))
    facts = FACTS | {"token": None, "context": None}
    facts["config"] = FACTS["config"] | {"seeds": [3], "inits": ["greedy", "oa-em"]}
    inside.write(replace(example, facts=facts), inside.place("0123456789abcdef"))
    return "0123456789abcdef"


def test_a_link_opens_another_comparison_and_the_controls_offer_what_it_has(kept):
    state = permalink.decode(
        Inside, {"run": kept, "init": "greedy", **{k: str(v) for k, v in PLACE.items()}}
    )
    shown = tab.opened(state)
    assert "h.0.q" in shown.about
    assert "inputs drawn with the mean squares" in shown.kept
    assert 'href="?v=1&amp;view=inside"' in shown.kept
    assert "seed=3" in shown.python
    init, row, group, scheme, step, run = tab.settings(state)
    assert [name for _, name in init["choices"]] == ["greedy", "oa-em"]
    assert (row["maximum"], group["maximum"], step["maximum"]) == (2, 1, 1)
    assert (row["value"], scheme, run) == (2, "1x2g2", kept)
    assert f"run={kept}" in permalink.encode("inside", state)


def test_nothing_is_opened_of_a_comparison_that_is_not_kept(kept):
    with pytest.raises(SourceError, match="nothing of a finished comparison fedcba98 is kept"):
        tab.opened(Inside(run="fedcba98"))
    with pytest.raises(InputError, match="made of the digits"):
        Inside(run="..")
    assert tab._groups("fedcba98") == 1  # so that Play ends
    assert tab._groups(kept) == 2


def test_a_finished_race_links_to_its_weights(kept):
    finished = documents.document()
    job = Job("id", finished["key"], documents.experiment(), State.DONE, document=finished)
    assert LOOK not in show_job(job, Place(0, None)).results
    inside.write(inside.find(kept), inside.place(finished["key"]))
    link = f"?v=1&amp;view=inside&amp;row=0&amp;group=0&amp;run={finished['key']}"
    assert link in show_job(job, Place(0, None)).results  # of OA-EM, as in the first view
