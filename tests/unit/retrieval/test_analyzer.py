import unicodedata

import pytest

from agentgym.retrieval.analyzer import STOP_WORDS, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("The capital of Chad", ["capital", "chad"]),
        ("Vitamin C, Apollo 7", ["vitamin", "c", "apollo", "7"]),
        ("Alan Turing's mother's name", ["alan", "turing", "mother", "name"]),
        ("Turing’s rock’n’roll", ["turing", "rock", "n", "roll"]),
        ("Ford Model S", ["ford", "model", "s"]),
        ("Beyoncé Knowles", ["beyonce", "knowles"]),
        ("İstanbul STRASSE Straße", ["istanbul", "strasse", "strasse"]),
        ("ﬁle K 𝐀", ["file", "k"]),
        ("東京 Tokyo とう カタカナ", ["東", "京", "tokyo", "と", "う", "カタカナ"]),
        ("Ελλάδα Москва", ["ελλαδα", "москва"]),
        ("a-b_c 3.14", ["b_c", "3", "14"]),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_ascii_and_unicode_paths_agree() -> None:
    text = "Smith's Model T, built in 1908 (the 'Tin Lizzie'), isn't 15_000 of x's"
    assert [t for t in terms(text + " é") if t != "e"] == terms(text)


def test_composed_and_decomposed_text_give_equal_terms() -> None:
    text = "Škoda São Tomé Nguyễn"
    assert terms(unicodedata.normalize("NFD", text)) == terms(unicodedata.normalize("NFC", text))


def test_stop_words_are_terms_of_their_own_analysis() -> None:
    assert all(terms(word) == [] for word in STOP_WORDS)
    assert len(STOP_WORDS) == 33
