"""A corpus that never changes: 1,500 passages and 200 queries from a counter, with what analyzers stumble over."""

from collections.abc import Iterator

from agentgym.types import Passage

STEMS = ["relate", "condition", "rational", "valence", "hesitate", "digit", "conform", "radical", "differ", "vile", "analog", "predicate", "operate", "feudal", "decisive", "hopeful", "callous", "formal", "sensitive", "sensible", "triple", "formality", "electric", "good", "revive", "allow", "infer", "airline", "gyroscope", "adjust", "irritate", "replace", "depend", "adopt", "homolog", "communism", "activate", "angular", "effective", "bowdler", "probate", "rate", "cease", "control", "roll", "topology", "flexible", "possible", "biology", "happy", "sky", "sing", "fall", "hiss", "fizz", "fail", "file", "caress", "pony", "tie", "cat", "agree", "plaster", "motor", "trouble", "size", "tan", "hop", "general", "oscillate", "capital", "river", "museum", "director", "film", "born", "island"]
ENDINGS = ("", "s", "ed", "ing", "ly", "ness", "ization", "ational", "fulness", "ement", "er", "ies", "al", "ity")
ODD = (
    "Alan's", "ALAN’S", "rock'n'roll", "U.S.A.", "3.14", "1,024", "a:b", "snake_case", "__init__", "x@y.org", "C++",
    "naïve", "Beyoncé", "İstanbul", "STRASSE", "Straße", "ΣΊΣΥΦΟΣ", "Москва", "東京都", "とうきょう", "カタカナ", "한국어",
    "ไทย", "עברית", "©", "😀", "👩‍🚀", "e\u0301te\u0301", "¼", "Ⅷ", "ﬁle", "don't", "the", "of", "and", "not", "2018-12-20",
    "über-cool", "O’Neill's", "A.B.C", "4G", "B2B", "wi-fi", "#tag", "🇫🇷", "™", "µm", "soft\u00adhyphen",
)  # fmt: skip


class Counter:
    """A generator of whole numbers that no library can change."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, n: int) -> int:
        """Return the next number below n."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % n

    def word(self) -> str:
        """Return a word: mostly of frequent stems, sometimes an odd one."""
        if self.below(12) == 0:
            return ODD[self.below(len(ODD))]
        rank = self.below(1 + self.below(1 + self.below(len(STEMS))))
        return STEMS[rank] + ENDINGS[self.below(1 + self.below(len(ENDINGS)))]

    def text(self, least: int, most: int) -> str:
        """Return words between blanks."""
        return " ".join(self.word() for _ in range(least + self.below(most - least)))


def passages(n: int = 1500) -> Iterator[Passage]:
    """Yield the passages; some are empty, one is long, one repeats a word 300 times."""
    for i in range(n):
        draw = Counter(1000 + i)
        text = "" if i % 97 == 5 else draw.text(3, 60)
        if i == 700:
            text = draw.text(3000, 3001)
        if i == 800:
            text = "gyroscope " * 300
        yield Passage(f"p{i:04}", "" if i % 97 == 5 else draw.text(1, 4), text)


def queries(n: int = 200) -> list[str]:
    """Return the queries; some repeat a word."""
    found = []
    for i in range(n):
        draw = Counter(9_000_000 + i)
        text = draw.text(1, 9)
        found.append(f"{text} {text.split()[0]}" if i % 10 == 3 else text)
    return found


def strings(n: int = 300) -> list[str]:
    """Return short strings of odd characters in odd places."""
    pool = "ab1_.:,;'’\"- \u200d\u0301éßİΣж東とカ한ไ©😀🏽🇫#\u20e3א٣₂ªﬁ𝐀\u00ad"
    found = []
    for i in range(n):
        draw = Counter(77_000 + i)
        found.append("".join(pool[draw.below(len(pool))] for _ in range(1 + draw.below(14))))
    return [*found, "a" * 600, "x" * 254 + "'s and", "1," * 300, "é" * 300, "𝐀" * 200]
