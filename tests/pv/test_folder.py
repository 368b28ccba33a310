import json
import os
import subprocess
import sys
from pathlib import Path

import models
import pairs
import pytest
import quantized
import torch
from safetensors.torch import load_file

from quantcore import corpora, sources, store
from quantcore.errors import Cancelled, InputError
from quantcore.pv import folder as folders
from quantcore.pv import loop, student
from quantcore.pv.descent import PvConfig
from quantcore.pv.folder import Tuning
from quantcore.pv.recoding import RecodeConfig

TEXT = "the quick brown fox jumps over the lazy dog. it was not amused by any of this. " * 12
KILLED = """
import os, signal, sys
from pathlib import Path
from quantcore.pv import folder as folders
from quantcore.pv.descent import PvConfig
from quantcore.pv.recoding import RecodeConfig
folders.SAVE_SECONDS = 0.0
model, against, text, out, last = sys.argv[1:]
pv = PvConfig(lr=1e-2, code_lr=0.3, recode=RecodeConfig(0.05))
config = folders.Tuning(model, against, 6, None, text, 16, 2, "hessian", True, pv, "cpu")
def observe(progress, manifest):
    step = manifest["tuning"]["curve"][-1]["step"]
    with Path(text + ".steps").open("a") as seen:
        print(step, file=seen)
    if step == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
folders.run(config, Path(out), observe)
"""


@pytest.fixture
def made(tmp_path, rng):
    """A quantized model, its original and a text, on disk -> the settings of a small run."""
    (tmp_path / "text.txt").write_text(TEXT)
    approximate, original = pairs.pair(rng)
    models.save_model(tmp_path / "original", original)
    quantized.save(tmp_path / "quantized", approximate)

    def settings(**changes):
        plain = {
            "model": str(tmp_path / "quantized"),
            "against": str(tmp_path / "original"),
            "steps": 4,
            "text": str(tmp_path / "text.txt"),
            "window": 16,
            "every": 2,
            "pv": PvConfig(lr=1e-2, code_lr=0.3, recode=RecodeConfig(0.05)),
            "device": "cpu",
        }
        return Tuning(**{**plain, **changes})

    return settings


def load(folder):
    return sources.load(sources.resolve(str(folder)))


def tensors(folder):
    return {n: v for path in folder.glob("*.safetensors") for n, v in load_file(path).items()}


def test_the_folder_holds_the_best_state_and_how_it_came_about(made, tmp_path):
    config = made()
    manifest = folders.run(config, tmp_path / "out")
    assert manifest == store.read_manifest(tmp_path / "out")
    assert manifest["complete"]
    assert manifest["model"]["name"] == config.against
    entry = manifest["tuning"]
    assert [point["step"] for point in entry["curve"]] == list(range(5))
    assert entry["best_validation_kl"] < entry["curve"][0]["validation_kl"]
    assert entry["config"]["pv"]["lr"] == config.pv.lr
    loaded, teacher = load(tmp_path / "out"), load(config.against)
    text, _ = corpora.load_text(config.text, "calibration")
    windows = corpora.windows(loaded.tokenizer, text, config.window)
    assert len(windows) == entry["windows"] + entry["validation_windows"]
    learner, weights = student.take(loaded.model)
    apart = windows[-entry["validation_windows"] :]
    problem = folders.Problem(learner, folders.Teacher(teacher.model), windows, apart)
    student.show(learner, weights, {})
    assert loop.validate(problem)[0] == pytest.approx(entry["best_validation_kl"], rel=1e-6)


def test_the_original_is_the_one_that_the_manifest_names(made, tmp_path):
    config = made(against=None, steps=1)
    with pytest.raises(InputError, match="does not say which model it was made from"):
        folders.run(config, tmp_path / "out")
    document = store.begin("one", {"bpp": 2.0}) | {"model": {"name": str(tmp_path / "original")}}
    document["blocks"] = {"0": {"seconds": 3.0, "file": "block-000.safetensors", "sha256": "x"}}
    (tmp_path / "quantized" / store.MANIFEST).write_text(json.dumps(document))
    manifest = folders.run(config, tmp_path / "out")
    assert manifest["config"] == {"bpp": 2.0}
    assert manifest["blocks"] == {"0": {"seconds": 3.0}}
    assert manifest["key"] != "one"


def test_tied_embeddings_are_written_once(made, tmp_path):
    folders.run(made(embeddings=True), tmp_path / "out")
    assert "lm_head.weight" not in tensors(tmp_path / "out")
    model = load(tmp_path / "out").model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not torch.equal(model.lm_head.weight, load(tmp_path / "quantized").model.lm_head.weight)


def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(made, tmp_path):
    config = made()
    environment = os.environ | {"PYTHONPATH": str(Path(folders.__file__).parents[2])}

    def run(out, last):
        given = (config.model, config.against, config.text, str(tmp_path / out), str(last))
        command = [sys.executable, "-c", KILLED, *given]
        return subprocess.run(command, env=environment, check=False).returncode

    assert run("whole", 99) == 0
    assert [run("parts", 3), run("parts", 5), run("parts", 99)] == [-9, -9, 0]
    steps = Path(config.text + ".steps").read_text().split()
    assert steps[7:] == list("012334556")  # none is done again
    whole, parts = (tensors(tmp_path / out) for out in ("whole", "parts"))
    assert not (tmp_path / "parts" / "state").exists()
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    curves = [store.read_manifest(tmp_path / o)["tuning"]["curve"] for o in ("whole", "parts")]
    for point in curves[0] + curves[1]:
        point["seconds"] = 0
    assert curves[0] == curves[1]


def test_another_command_is_refused_with_what_differs_and_the_same_one_is_done(made, tmp_path):
    first = folders.run(made(), tmp_path / "out")
    other = made(steps=5, pv=PvConfig(lr=1e-2, code_lr=0.3, recode=RecodeConfig(0.1)))
    with pytest.raises(
        InputError, match=r"steps 4 instead of 5, recode .*0\.05.* instead of .*0\.1"
    ):
        folders.run(other, tmp_path / "out")
    assert folders.run(made(), tmp_path / "out") == first
    with pytest.raises(InputError, match="holds other files"):
        folders.run(made(), tmp_path / "quantized")


def test_an_observer_can_stop_it(made, tmp_path):
    words = []

    def stop(progress, manifest):
        words.append(progress.stage)
        if len(words) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        folders.run(made(), tmp_path / "out", stop)
    assert words[2].startswith("step 2, validation KL ")
    assert not store.read_manifest(tmp_path / "out")["complete"]
    assert folders.run(made(), tmp_path / "out")["complete"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "give --steps or --minutes"),
        ({"steps": 0}, "steps must be above 0, got 0"),
        ({"every": 0}, "every must be above 0, got 0"),
        ({"metric": "round"}, "there is no metric 'round'; choose plain or hessian"),
    ],
)
def test_bad_settings_are_refused(made, changes, message):
    with pytest.raises(InputError, match=message):
        made(**changes)


def test_a_text_of_one_window_and_another_original_are_refused(made, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT[:120])
    with pytest.raises(InputError, match="the text has 1 windows of 64 tokens and tuning needs 2"):
        folders.run(made(window=64), tmp_path / "one")
    (tmp_path / "text.txt").write_text(TEXT)
    models.save_model(tmp_path / "wider", models.tiny_llama(vocab_size=70))
    with pytest.raises(InputError, match="knows 64 words and its original 70"):
        folders.run(made(against=str(tmp_path / "wider")), tmp_path / "two")
