import math
import statistics

import models
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from quantcore import entries
from quantcore.errors import InputError


def entry(*window_nll, predicted=4):
    facts = {"windows": len(window_nll), "tokens": predicted * len(window_nll)}
    return {"perplexity": facts, "window_nll": list(window_nll)}


def test_a_difference_is_paired_by_window():
    one, other = (3.0, 8.0, 1.0, 6.0), (2.0, 4.0, 3.0, 5.5)
    each = [(a - b) / 4 for a, b in zip(one, other, strict=True)]
    found = entries.difference(entry(*one), entry(*other))
    error = statistics.stdev(each) / math.sqrt(4)
    assert found == pytest.approx((statistics.mean(each), error))
    assert entries.difference(entry(*other), entry(*one)) == pytest.approx((-found[0], error))


def test_a_single_window_has_no_error():
    assert entries.difference(entry(4.0), entry(2.0)) == (0.5, None)


@pytest.mark.parametrize("old", [{}, {"window_nll": None}])
def test_an_older_entry_is_no_pair(old):
    before = {"perplexity": {"windows": 1, "tokens": 4}, **old}
    assert entries.difference(entry(4.0), before) is None
    assert entries.difference(before, entry(4.0)) is None


def test_other_windows_are_no_pair():
    with pytest.raises(InputError, match="compared on the same windows, got 1 of 4 tokens and 2"):
        entries.difference(entry(4.0), entry(4.0, 2.0))


def tokenizer_of(words, decoder):
    made = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token=words[0]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.WhitespaceSplit(), decoder
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=words[0])


def test_pieces_join_to_the_text_where_a_first_token_loses_its_space():
    tokenizer = tokenizer_of(["?", "▁the", "▁cat", "s"], decoders.Metaspace())
    assert tokenizer.decode([2]) == "cat"  # which is why tokens are not decoded alone
    assert entries.pieces(tokenizer, torch.tensor([1, 2, 3, 2])) == ["the", " cat", "s", " cat"]


def test_a_character_of_several_tokens_stands_with_the_last_of_them():
    euro = "€".encode()  # three bytes
    words = ["?", "a", *(f"<0x{byte:02X}>" for byte in euro)]
    tokenizer = tokenizer_of(words, decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()]))
    assert entries.pieces(tokenizer, torch.tensor([1, 2, 3, 4, 1])) == ["a", "", "", "€", "a"]
    cut = entries.pieces(tokenizer, torch.tensor([1, 2, 3]))  # its end is beyond the window
    assert cut[0] == "a"
    assert set("".join(cut[1:])) == {"\N{REPLACEMENT CHARACTER}"}


def test_pieces_join_to_what_the_tokenizer_decodes():
    tokenizer = models.tiny_tokenizer()
    ids = tokenizer("the quick fox. jumps\n", return_tensors="pt")["input_ids"][0]
    found = entries.pieces(tokenizer, ids)
    assert (len(found), "".join(found)) == (len(ids), tokenizer.decode(ids))
    assert entries.pieces(tokenizer, ids[:0]) == []
