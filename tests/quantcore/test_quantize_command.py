import models
import pytest

from quantcore.commands import console


@pytest.fixture
def run(command_line, monkeypatch, tmp_path):
    """`quantcore quantize` in this process: arguments -> exit code, stdout, stderr."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    source = models.save_model(tmp_path / "source")
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    sizes = ["--text", tmp_path / "text.txt", "--samples", 8, "--heldout-samples", 4]
    sizes += ["--length", 16, "--sweeps", 1, "--epochs", 1]

    return lambda *arguments: command_line("quantize", source, *sizes, *arguments, width=200)


def test_a_line_for_each_layer_and_block_and_the_bits(run, tmp_path):
    code, out, _ = run("--scheme", "2x3g4", "--out", tmp_path / "q")
    assert code == 0
    assert out.count("_proj: error ") == 3 * 7
    assert out.count("block ") == 3
    assert "1.500 bits of codes a weight" in out
    assert "21 layers in" in out
    code, out, _ = run("--scheme", "2x3g4", "--out", tmp_path / "q")  # all is there
    assert code == 0
    assert "_proj: error " not in out


def test_a_plan_starts_nothing(run, tmp_path):
    code, out, _ = run("--scheme", "2x3g16", "--plan", "--out", tmp_path / "q")
    assert code == 0
    assert "self_attn.q_proj" in out
    assert "24 inputs do not divide" in out.replace("\n", " ")
    assert "bits a parameter" in out
    assert "minutes" in out
    assert not (tmp_path / "q").exists()


def test_a_mixed_plan_says_what_it_cannot_be_exported_to(run):
    code, out, _ = run("--bpp", 12, "--mixed", "--plan")
    assert code == 0
    assert "AQLM" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--out FOLDER"),
        (("--scheme", "2by8"), "written like 2x8g8"),
        (("--scheme", "2x8g8", "--bpp", "2"), "either bits per weight or a scheme"),
        (("--blocks", "a-b"), "blocks are numbers such as 0-3 or 0,2,5-7, got 'a-b'"),
        (("--blocks", "7", "--plan", "--bpp", "8"), "blocks must be from 0 to 2"),
        (("--bpp", "0.2", "--plan"), "no scheme fits"),
        (("--epochs", "-1", "--plan"), "epochs must be at least 0"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, words):
    code, _, err = run(*arguments)
    assert code == console.BAD_INPUT
    assert words in err
    assert "Traceback" not in err


def test_another_command_on_the_folder_is_refused(run, tmp_path):
    assert run("--scheme", "2x3g4", "--blocks", "0", "--out", tmp_path / "q")[0] == 0
    code, _, err = run("--scheme", "2x4g4", "--blocks", "0", "--out", tmp_path / "q")
    assert code == console.BAD_INPUT
    assert "with other scheme" in err
