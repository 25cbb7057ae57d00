"""Texts of tokens, from every form of file."""

import json

import pytest

from kullback.scoring import InputError
from kullback.scoring.token_texts import read_token_texts


def test_texts_of_every_form(tmp_path):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(["<s>", " the", "\ud800"]))
    assert read_token_texts(path) == ["<s>", " the", "\ud800"]
    lines = tmp_path / "vocab.txt"
    lines.write_text("<s>\n the\n\n[x", encoding="utf-8")
    assert read_token_texts(lines) == ["<s>", " the", "", "[x"]


def test_tokenizers_of_the_library(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"Ġthe": 0, "cat": 1, "Ċ": 2, "Ã": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(tmp_path / "bytes.json"))
    assert read_token_texts(tmp_path / "bytes.json") == [" the", "cat", "\n", "\\xc3", "<|end|>"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram([("<unk>", 0.0), ("▁the", -1.0)], 0))
    tokenizer.save(str(tmp_path / "unigram.json"))
    assert read_token_texts(tmp_path / "unigram.json") == ["<unk>", " the"]


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b"{}", b'{"model": {"vocab": {"a": -1}}}', b"\xff\xfe", b"3"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "texts.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no token texts"):
        read_token_texts(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_token_texts(tmp_path / "missing")
