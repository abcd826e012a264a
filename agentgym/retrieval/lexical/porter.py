"""Porter's stemmer in the revision that Lucene uses ("bli" and "logi" are rules of step 2).

Source: Porter, "An algorithm for suffix stripping", with its author's later corrections. Words of one or two
characters stay as they are. Characters other than a, e, i, o, u and y count as consonants.
"""

_STEP2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble",
    "logi": "log",
}  # fmt: skip
_STEP3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate",
    "iti", "ous", "ive", "ize",
)  # fmt: skip
_ORDER2 = sorted(_STEP2, key=len, reverse=True)
_ORDER3 = sorted(_STEP3, key=len, reverse=True)
_ORDER4 = sorted(_STEP4, key=len, reverse=True)
_ANY2, _ANY3 = tuple(_STEP2), tuple(_STEP3)
"""One look tells that a word, like most, has no suffix of a step."""


def stem(word: str) -> str:
    """Return the stem of a lower-case word."""
    if len(word) <= 2:
        return word
    word = _step1(word)
    if word.endswith(_ANY2):
        word = _replace(word, _ORDER2, _STEP2)
    if word.endswith(_ANY3):
        word = _replace(word, _ORDER3, _STEP3)
    return _step5(_step4(word) if word.endswith(_STEP4) else word)


def _shape(word: str) -> str:
    """Return the word as v (vowel) and c (consonant); a y after a consonant is a vowel."""
    kinds, before = [], "v"
    for letter in word:
        before = "v" if letter in "aeiou" or (letter == "y" and before == "c" and kinds) else "c"
        kinds.append(before)
    return "".join(kinds)


def _measure(word: str) -> int:
    """Return how often a vowel is followed by a consonant."""
    return _shape(word).count("vc")


def _ends_short(word: str) -> bool:
    """Tell whether a word ends consonant, vowel, consonant, the last one not w, x or y."""
    return len(word) >= 3 and _shape(word).endswith("cvc") and word[-1] not in "wxy"


def _step1(word: str) -> str:
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        if _measure(word[:-3]) > 0:
            word = word[:-1]
    else:
        root = word[:-2] if word.endswith("ed") else word[:-3] if word.endswith("ing") else ""
        if "v" in _shape(root):
            word = _mended(root)
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    return word


def _mended(root: str) -> str:
    """Repair a root that has lost -ed or -ing."""
    if root.endswith(("at", "bl", "iz")):
        return root + "e"
    if len(root) >= 2 and root[-1] == root[-2] and _shape(root)[-1] == "c":
        return root if root[-1] in "lsz" else root[:-1]
    if _measure(root) == 1 and _ends_short(root):
        return root + "e"
    return root


def _replace(word: str, order: list[str], rules: dict[str, str]) -> str:
    """Apply the rule of the longest suffix, where something that can stand alone is left of it."""
    for suffix in order:
        if word.endswith(suffix):
            root = word[: -len(suffix)]
            return root + rules[suffix] if _measure(root) > 0 else word
    return word


def _step4(word: str) -> str:
    for suffix in _ORDER4:
        if word.endswith(suffix):
            root = word[: -len(suffix)]
            allowed = suffix != "ion" or root.endswith(("s", "t"))
            return root if allowed and _measure(root) > 1 else word
    return word


def _step5(word: str) -> str:
    if word.endswith("e"):
        root = word[:-1]
        measure = _measure(root)
        if measure > 1 or (measure == 1 and not _ends_short(root)):
            word = root
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word
