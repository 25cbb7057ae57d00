"""Texts of tokens: the spellings of real vocabularies, their classes, and files that are none."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kullback.scoring import InputError, read_token_texts
from kullback.scoring.token_classes import CLASSES, class_of, looks_special
from kullback.scoring.token_texts import _LETTERS, TokenTexts


def write(folder, content, name="tokenizer.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def classes(texts):
    return [CLASSES[code] for code in texts.codes(np.arange(len(texts)))]


def spelled(text):
    """Spell a text as byte-level BPE does."""
    letters = {byte: letter for letter, byte in _LETTERS.items()}
    return "".join(letters[byte] for byte in text.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        " the": "word_start",
        "ing": "word_continuation",
        "The": "word_continuation",
        "\tif": "word_start",
        "'s": "word_continuation",
        ".length": "word_continuation",
        " _x": "word_continuation",
        " und": "word_start",
        "\u0301e": "word_continuation",
        " мир": "word_start",
        "한국": "word_continuation",
        "3": "number",
        " 1984": "number",
        "½": "number",
        "٣": "number",
        "x2": "word_continuation",
        "2x": "number",
        ".": "punctuation",
        ' ("': "punctuation",
        ");\n": "punctuation",
        "🙂": "punctuation",
        "€": "punctuation",
        "\n": "newline",
        " \r\n\n": "newline",
        "    ": "whitespace",
        "\t": "whitespace",
        "\u3000": "whitespace",
        "語": "unspaced_script",
        " 語": "unspaced_script",
        "ひら": "unspaced_script",
        "ไทย": "unspaced_script",
        "": "special",
        "\x00": "bytes",
        "\u200b": "bytes",
    }.items(),
)
def test_classes(text, expected):
    assert class_of(text) == expected


@given(st.text())
def test_every_text_has_a_class(text):
    assert class_of(text) in CLASSES


@pytest.mark.parametrize("text", ["<|endoftext|>", "<s>", "</s>", "<unk>", "<|im_start|>", "[PAD]", "<unused12>"])
def test_marks_that_are_special(text):
    assert looks_special(text)


@pytest.mark.parametrize("text", ["<", "<div>", "a<s>", "[", "[i]", "<0x0A>", "|>", "<|"])
def test_texts_that_are_not(text):
    assert not looks_special(text)


def test_letters_of_byte_level_bpe():
    """As GPT-2 has them: every byte once, visible ones as they are."""
    assert sorted(_LETTERS.values()) == list(range(256))
    for letter, byte in {"Ġ": 32, "Ċ": 10, "ĉ": 9, "č": 13, "!": 33, "a": 97, "Ń": 173, "ÿ": 255, "Ā": 0}.items():
        assert _LETTERS[letter] == byte


@given(st.lists(st.text(), min_size=1))
def test_byte_level_spelling_is_undone(texts):
    found = TokenTexts([spelled(text) for text in texts], "byte-level", set())
    assert [found[token] for token in range(len(texts))] == texts
    assert classes(found) == [class_of(text) for text in texts]


def test_byte_level_tokenizer(tmp_path):
    vocabulary = {"Ġthe": 0, "Ċ": 1, "ing": 2, spelled("語")[:2]: 3, spelled("語"): 4, "Ġ42": 5, "ĠĠĠ": 6}
    content = {
        "added_tokens": [
            {"id": 7, "content": "<tool call>", "special": True},
            {"id": 9, "content": "  x", "special": False},
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    texts = read_token_texts(write(tmp_path, content))
    assert (texts.spelling, len(texts)) == ("byte-level", 10)
    assert [texts[token] for token in (0, 1, 4, 6, 7, 9)] == [" the", "\n", "語", "   ", "<tool call>", "  x"]
    assert texts[3] == "\N{REPLACEMENT CHARACTER}"
    assert classes(texts) == [
        *("word_start", "newline", "word_continuation", "bytes", "unspaced_script", "number", "whitespace", "special"),
        *("unknown", "word_start"),
    ]


def test_sentencepiece_tokenizer(tmp_path):
    pieces = ["<unk>", "▁the", "re", "<0x0A>", "<0xE8>", "<0x41>", "▁", "▁▁", ".", "▁語"]
    content = {
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁"},
        "decoder": None,
        "model": {"type": "Unigram", "vocab": [[piece, -1.5] for piece in pieces]},
    }
    expected = [
        *("special", "word_start", "word_continuation", "newline", "bytes", "word_continuation", "whitespace"),
        *("whitespace", "punctuation", "unspaced_script"),
    ]
    for source in (content, pieces, dict(zip(pieces, range(10), strict=True))):
        texts = read_token_texts(write(tmp_path, source))
        assert texts.spelling == "sentencepiece"
        assert classes(texts) == expected
        assert texts[1] == " the"
        assert texts[3] == "\n"


def test_wordpiece_tokenizer(tmp_path):
    content = {"decoder": {"type": "WordPiece"}, "model": {"vocab": {"the": 0, "##ing": 1, "7": 2, "##,": 3}}}
    texts = read_token_texts(write(tmp_path, content))
    assert classes(texts) == ["word_start", "word_continuation", "number", "punctuation"]
    assert [texts[token] for token in range(2)] == [" the", "ing"]


def test_a_tokenizer_that_marks_no_token_is_special_by_spelling(tmp_path):
    content = {"decoder": {"type": "ByteLevel"}, "model": {"vocab": {"<|endoftext|>": 0, "Ġa": 1}}}
    assert classes(read_token_texts(write(tmp_path, content))) == ["special", "word_start"]
    content["added_tokens"] = [{"id": 1, "content": "Ġa", "special": True}]
    assert classes(read_token_texts(write(tmp_path, content))) == ["word_continuation", "special"]


def test_lists_and_lines(tmp_path):
    plain = read_token_texts(write(tmp_path, [" the", " of", "ing", "\n", "Ġ", "<|end|>"]))
    assert plain.spelling == "plain"
    assert classes(plain) == [
        "word_start",
        "word_start",
        "word_continuation",
        "newline",
        "word_continuation",
        "special",
    ]
    lines = read_token_texts(write(tmp_path, "[PAD]\nĠthe\r\n\nĊ\nĠĠ\n", "texts.txt"))
    assert classes(lines) == ["special", "word_start", "special", "newline", "whitespace"]
    assert len(lines) == 5  # an empty line is a token, the line break at the end begins none
    assert read_token_texts(write(tmp_path, ["a", "b"])).spelling == "plain"


def test_codes_of_ids_outside():
    texts = TokenTexts(["a", None], "plain", set())
    unknown = CLASSES.index("unknown")
    np.testing.assert_array_equal(texts.codes(np.array([0, 1, 2, 1 << 40, -1])), [1, unknown, unknown, unknown, -1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no token"),
        ("[]", "holds no token"),
        ("{}", "holds no token"),
        ('{"a": 1', "is not JSON"),
        ('["a", 3]', "its list must hold strings only"),
        ('{"a": -1}', "'a' has the id '-1'"),
        ('{"a": 1e9}', "'a' has the id"),
        ('{"a": 99999999999}', "'a' has the id"),
        ('{"a": true, "b": {}}', "'b' has the id"),
        ('{"model": 3}', "holds no vocabulary"),
        ('{"model": {"vocab": [3]}}', "holds no vocabulary"),
        ('{"model": {"vocab": {"a": 0}}, "added_tokens": [3]}', "holds no vocabulary"),
        ('{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": "x", "special": true}]}', "holds no vocabulary"),
    ],
)
def test_what_is_no_vocabulary(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_token_texts(write(tmp_path, content))
    assert str(tmp_path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="is missing"):
        read_token_texts(tmp_path / "none.json")
    with pytest.raises(InputError, match="is no file"):
        read_token_texts(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not text in UTF-8"):
        read_token_texts(tmp_path / "binary")


def test_lone_surrogates_do_not_raise(tmp_path):
    path = tmp_path / "texts.json"
    added = '[{"id": 1, "content": "\\ud800", "special": true}]'
    path.write_text(f'{{"added_tokens": {added}, "model": {{"vocab": {{"\\udfff": 0}}}}}}')
    assert len(classes(read_token_texts(path))) == 2
