import cases
import models
import pytest
import torch

from quantcore import calibration, corpora, files, problems, sources
from quantcore.errors import InputError, ProblemError, SourceError
from quantcore.problems import TextConfig

LAYER = "model.layers.1.mlp.down_proj"
SMALL = {"window": 12, "calibration_tokens": 120, "heldout_tokens": 60}


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    return sources.load(sources.resolve(str(models.save_model(tmp_path / "model"))))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 20)
    return str(path)


def stored(tmp_path, rng, heldout=True):
    problem = cases.make(rng).problem
    tensors = {"one.weight": problem.weight, "one.hessian": problem.hessian}
    if heldout:
        tensors["one.heldout_hessian"] = problem.heldout_hessian
    path = tmp_path / "problem.safetensors"
    files.write_tensors(path, tensors)
    return path, problem


@pytest.mark.parametrize("heldout", [True, False])
def test_a_stored_problem_is_read(tmp_path, rng, heldout):
    path, problem = stored(tmp_path, rng, heldout)
    found = problems.from_file(path, "one")
    assert torch.equal(found.weight, problem.weight)
    assert torch.equal(found.hessian, problem.hessian)
    assert (found.heldout_hessian is None) == (not heldout)


def test_an_unknown_prefix_lists_those_there(tmp_path, rng):
    path, _ = stored(tmp_path, rng)
    with pytest.raises(SourceError, match="has no problem 'two'; it holds one"):
        problems.from_file(path, "two")


def test_a_problem_without_a_hessian_names_it(tmp_path, rng):
    path = tmp_path / "problem.safetensors"
    files.write_tensors(path, {"one.weight": cases.make(rng).problem.weight})
    with pytest.raises(SourceError, match=r"has no tensor 'one.hessian'"):
        problems.from_file(path, "one")


def test_tensors_that_are_no_matrices_are_refused(tmp_path):
    path = tmp_path / "problem.safetensors"
    files.write_tensors(path, {"one.weight": torch.ones(3), "one.hessian": torch.eye(3)})
    for read in (lambda: problems.from_file(path, "one"), lambda: problems.shapes(path)):
        with pytest.raises(SourceError, match=r"one.weight in .* must be a matrix, got 1 axes"):
            read()


def test_the_shapes_of_a_file_are_those_of_its_problems(tmp_path):
    path = tmp_path / "problem.safetensors"
    tensors = {"one.weight": torch.ones(3, 4), "one.hessian": torch.eye(4)}
    files.write_tensors(path, tensors | {"two.deep.weight": torch.ones(5, 2)})
    assert problems.shapes(path) == {"one": (3, 4), "two.deep": (5, 2)}


def test_a_file_without_problems_is_refused(tmp_path):
    path = tmp_path / "problem.safetensors"
    files.write_tensors(path, {"one.hessian": torch.eye(3)})
    with pytest.raises(SourceError, match="holds no problem"):
        problems.shapes(path)


def test_a_passage_begins_with_its_first_windows(loaded, text):
    parts = problems.passages(loaded, TextConfig(text, **SMALL))
    assert [len(parts[split].windows) for split in ("calibration", "evaluation")] == [10, 5]
    beginning = parts["calibration"].first(4)
    assert torch.equal(beginning.windows, parts["calibration"].windows[:4])
    assert beginning.source == parts["calibration"].source


def test_a_stored_problem_is_checked(tmp_path):
    path = tmp_path / "problem.safetensors"
    files.write_tensors(path, {"one.weight": torch.ones(3, 4), "one.hessian": torch.eye(3)})
    with pytest.raises(ProblemError, match="it must be 4x4"):
        problems.from_file(path, "one")


def test_a_models_problem_is_its_weight_and_two_hessians(loaded, text):
    problem, sources_of = problems.from_model(
        loaded, "1.mlp.down_proj", TextConfig(text, **SMALL), lambda done, total: None
    )
    layer = loaded.model.get_submodule(LAYER)
    assert torch.equal(problem.weight, layer.weight)
    for split, hessian, count in (
        ("calibration", problem.hessian, 10),
        ("evaluation", problem.heldout_hessian, 5),
    ):
        words, _ = corpora.load_text(text, split)
        windows = corpora.windows(loaded.tokenizer, words, 12, count)
        torch.testing.assert_close(hessian, calibration.hessian(loaded.model, LAYER, windows))
    assert not torch.allclose(problem.hessian, problem.heldout_hessian)
    assert sources_of["calibration"].spec == text
    assert sources_of["calibration"].sha256 != sources_of["evaluation"].sha256


def test_hessians_are_measured_once(loaded, text, monkeypatch):
    config = TextConfig(text, **SMALL)
    seen = []
    one, _ = problems.from_model(loaded, LAYER, config, lambda *told: seen.append(told))
    assert seen[-1] == (15, 15)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    monkeypatch.delattr(calibration, "hessian")
    two, _ = problems.from_model(loaded, LAYER, config, lambda *told: seen.append(told))
    assert torch.equal(one.hessian, two.hessian)
    assert seen[-1] == (15, 15)


def test_a_damaged_cache_is_measured_again(loaded, text, tmp_path):
    config = TextConfig(text, **SMALL)
    one, _ = problems.from_model(loaded, LAYER, config, lambda done, total: None)
    for path in (tmp_path / "cache" / "hessians").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    two, _ = problems.from_model(loaded, LAYER, config, lambda done, total: None)
    assert torch.equal(one.hessian, two.hessian)


def test_another_layer_or_length_is_another_hessian(loaded, text):
    found = [
        problems.from_model(loaded, layer, TextConfig(text, **{**SMALL, **change}), lambda *_: None)
        for layer, change in (
            (LAYER, {}),
            ("model.layers.2.mlp.down_proj", {}),
            (LAYER, {"calibration_tokens": 60}),
        )
    ]
    hessians = [problem.hessian for problem, _ in found]
    assert not torch.allclose(hessians[0], hessians[1])
    assert not torch.allclose(hessians[0], hessians[2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window": 1}, "window must be at least 2 tokens, got 1"),
        ({"calibration_tokens": 100}, "calibration_tokens must be at least one window of 256"),
        ({"heldout_tokens": 0}, "heldout_tokens must be at least one window of 256 tokens, got 0"),
    ],
)
def test_impossible_amounts_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        TextConfig(**values)
