import models
import pytest
import torch

from quantcore import blocks, machine, problems, sources, streams, walk
from quantcore.errors import Cancelled, ProblemError, ResourceError
from quantcore.problems import TextConfig

SMALL = {"window": 12, "calibration_tokens": 120, "heldout_tokens": 60}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 20)
    return str(path)


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    return sources.load(sources.resolve(str(models.save_model(tmp_path / "model"))))


@pytest.fixture
def parts(loaded, text):
    return problems.passages(loaded, TextConfig(text, **SMALL))


def infos(loaded, *names):
    every = blocks.linear_layers(loaded.model)
    return [every[f"model.layers.{name}"] for name in names] if names else list(every.values())


def forget(tmp_path):
    for path in (tmp_path / "cache" / "hessians").glob("*"):
        path.unlink()


def test_both_ways_to_measure_give_one_problem(loaded, text, parts, tmp_path):
    """Every layer of the model, each on the whole calibration text and on its beginning."""
    walked = {info.name: found for info, found in walk.run(loaded, infos(loaded), parts, [4, 10])}
    assert len(walked) == 21
    for name, found in walked.items():
        for tokens, one in zip((48, 120), found, strict=True):
            forget(tmp_path)  # or it would be read, not measured
            config = TextConfig(text, **(SMALL | {"calibration_tokens": tokens}))
            other, _ = problems.from_model(loaded, name, config, lambda *told: None)
            assert torch.equal(one.weight, other.weight)
            torch.testing.assert_close(one.hessian, other.hessian)
            torch.testing.assert_close(one.heldout_hessian, other.heldout_hessian)


def test_layers_come_block_by_block(loaded, parts):
    asked = infos(loaded, "2.mlp.up_proj", "0.mlp.up_proj", "2.self_attn.q_proj")
    found = [info.name for info, _ in walk.run(loaded, asked, parts, [10])]
    assert found == [
        "model.layers.0.mlp.up_proj",
        "model.layers.2.mlp.up_proj",
        "model.layers.2.self_attn.q_proj",
    ]


def test_what_was_measured_is_found_again_either_way(loaded, text, parts, monkeypatch):
    asked = infos(loaded, "1.mlp.down_proj")
    [(_, [first])] = walk.run(loaded, asked, parts, [10])
    monkeypatch.delattr(problems.calibration, "hessian")
    config = TextConfig(text, **SMALL)
    again, _ = problems.from_model(loaded, asked[0].name, config, lambda *told: None)
    assert torch.equal(first.hessian, again.hessian)
    monkeypatch.delattr(streams, "start")
    [(_, [third])] = walk.run(loaded, asked, parts, [10])
    assert torch.equal(first.hessian, third.hessian)


def test_blocks_run_no_further_than_asked(loaded, parts, monkeypatch):
    passed = []
    through = streams.through
    monkeypatch.setattr(streams, "through", lambda *given: passed.append(1) or through(*given))
    list(walk.run(loaded, infos(loaded, "1.self_attn.k_proj"), parts, [10]))
    assert len(passed) == 1  # through block 0, to get to block 1


def test_only_what_is_missing_is_measured(loaded, parts, monkeypatch):
    list(walk.run(loaded, infos(loaded, "1.self_attn.k_proj", "1.mlp.up_proj"), parts, [10]))
    asked = []
    real = streams.hessians
    monkeypatch.setattr(
        streams,
        "hessians",
        lambda block, names, *rest: asked.append(names) or real(block, names, *rest),
    )
    list(walk.run(loaded, infos(loaded, "1.self_attn.k_proj", "1.self_attn.o_proj"), parts, [10]))
    assert asked == [["self_attn.o_proj"], ["self_attn.o_proj"]]  # calibration and held-out text


def test_progress_rises_to_one_in_every_block_and_can_stop(loaded, parts):
    told = []
    list(walk.run(loaded, infos(loaded), parts, [3, 10], lambda *seen: told.append(seen)))
    for block in (0, 1, 2):
        shares = [share for number, share in told if number == block]
        assert shares == sorted(shares)
        assert 0.5 < shares[-1] <= 1

    def stop(block, share):
        raise Cancelled

    other = {split: part.first(2) for split, part in parts.items()}
    with pytest.raises(Cancelled):
        list(walk.run(loaded, infos(loaded), other, [2], stop))


def test_a_layer_that_makes_no_problem_is_named(loaded, parts):
    loaded.model.model.layers[1].mlp.up_proj.weight[3] = 0
    with pytest.raises(ProblemError, match=r"layer model.layers.1.mlp.up_proj: row 3 .* all zeros"):
        list(walk.run(loaded, infos(loaded, "1.mlp.up_proj"), parts, [10]))


def test_hessians_that_do_not_fit_are_refused(loaded, parts, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device=None: 1000)
    with pytest.raises(ResourceError, match=r"measuring the Hessians of block 1 needs about"):
        list(walk.run(loaded, infos(loaded, "1.mlp.up_proj"), parts, [10]))
