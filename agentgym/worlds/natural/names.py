"""Names of a natural world, computed from an entity's index alone: nothing is stored, all names are distinct.

A coined word is consonants-vowel twice (three times in large worlds) and an ending; the endings of different
kinds differ, so no word names two things. People come in groups of seven: two with a surname of their own, two
who share one, and three who share one of whom two are namesakes.
"""

# Word lists are easier to read and to extend as text.
# ruff: noqa: SIM905

from agentgym.seeding import key_int
from agentgym.worlds.closed_words import PEOPLE

NAME_GROUP = 7
"""People are named in groups of so many; surnames are shared only inside a group."""
ONSETS = "b br d dr f g gr h j k kl l m n p pl r s st t tr v w z".split()
VOWELS = "aeiou"
ENDINGS = {
    "city": "ford stad haven ville burg wick ton port field dale".split(),
    "old city": "gard thorpe minster castle combe hythe stow bury".split(),
    "region": "shire land march weald fold reach moor side".split(),
    "old region": "gau district bank ridge vale steppe wold coast".split(),
    "country": "nia ria via sia stan dora gria lia".split(),
    "old country": "mark realm thrace gonia crown league throne pact".split(),
    "surname": "son sen ley berg quist ler ner ski vic well".split(),
    "pen name": "ko nix zel rix mo tto bby ssa".split(),
    "character": "lis tan bel dra nor jas fin wen".split(),
    "organisation": "don gate lock worth crest mont stone brook".split(),
    "old organisation": "holm crag penn lane forge tower mill hall".split(),
}
ORGANISATIONS = "Press Institute Foundation Society Guild Company Academy Workshop".split()
MEDIA = ("novel", "film", "album")
PROFESSIONS = """botanist surveyor chemist sculptor lawyer cellist geologist translator watchmaker physician engraver
    astronomer cartographer weaver mathematician organist beekeeper linguist potter shipwright dramatist glassblower
    typographer ornithologist""".split()
ADJECTIVES = """Amber Ancient Bitter Blind Bright Broken Burning Cold Crimson Crooked Dancing Distant Drowned Empty
    Endless Fallen Final First Forgotten Frozen Gentle Gilded Golden Hidden Hollow Humble Idle Iron Lonely Lost Marble
    Narrow Nameless Northern Pale Patient Painted Quiet Restless Rusted Sacred Scarlet Secret Shallow Silent Silver
    Sleeping Southern Stolen Strange Sunken Tender Velvet Violet Wandering Western Wicked Winter Wooden Young""".split()
NOUNS = """Anchor Apple Archer Arrow Basket Beacon Bell Bishop Bottle Bridge Candle Canyon Carriage Cellar Chapel
    Clock Cloud Comet Compass Crane Crow Dagger Desert Door Dragon Drummer Falcon Feather Ferry Fiddle Forest Fountain
    Fox Garden Ghost Glacier Glove Hammer Harbour Harp Heron Island Judge Kettle Ladder Lantern Letter Lion Loom
    Magpie Mask Meadow Mirror Monk Needle Oak Orchard Owl Palace Pearl Pilgrim Piper Prison Queen Raven River Rope
    Sailor Shadow Shepherd Staircase Stranger Swan Thief Thistle Tunnel Umbrella Violin Wagon Well Willow""".split()
HALVES = tuple(n for n in PEOPLE if n[0] <= "J"), tuple(n for n in PEOPLE if n[0] > "J")
"""Two lists of given names without a common initial, so that people of one surname differ in their initials."""
TITLES = ("The {a} {n} and the {m}", "{n} of the {a} {m}")
OTHER_TITLES = ("When {x} Met the {n}", "The {n} of {x}", "The {n} and {x}", "{x} Without the {n}")
"""Main titles are common words alone, other titles have a coined name: both can be told apart by a search."""


class Names:
    """Names and aliases of the entities of one world."""

    def __init__(self, seed: int, entities: int) -> None:
        """Fix the names of a world of this seed; `entities` decides how long the coined words are."""
        self.seed = seed
        self.syllables = 2 if entities <= 200_000 else 3
        self._factors: dict[str, tuple[int, ...]] = {}

    def name(self, kind: str, index: int) -> str:
        """Return an entity's main name, e.g. "Mira Halvorsen". Namesakes have the same."""
        match kind:
            case "k" | "r" | "c":
                return self.coined({"k": "country", "r": "region", "c": "city"}[kind], index)
            case "o":
                return self._organisation("organisation", index)
            case "p":
                return f"{self._given(index)} {self.surname(index)}"
            case _:
                return self._title(index)

    def title(self, kind: str, index: int) -> str:
        """Return the title of an entity's page: its name, for namesakes with the profession in brackets."""
        name = self.name(kind, index)
        return f"{name} ({self.profession(index)})" if self.is_namesake(kind, index) else name

    def mention(self, kind: str, index: int) -> str:
        """Return how other pages name an entity, without doubt who is meant."""
        name = self.name(kind, index)
        if kind == "w":
            return f'"{name}"'
        return f"the {self.profession(index)} {name}" if self.is_namesake(kind, index) else name

    def stated_alias(self, kind: str, index: int) -> str:
        """Return the second name that the entity's own page gives, or an empty string."""
        if kind == "w":
            return self._other_title(index) if index % 4 else ""
        if kind == "p":
            return self.coined("pen name", index) if index % 3 == 0 else ""
        if index % 2:
            return ""
        if kind == "o":
            return self._organisation("old organisation", index)
        return self.coined({"k": "old country", "r": "old region", "c": "old city"}[kind], index)

    def aliases(self, kind: str, index: int) -> tuple[str, ...]:
        """Return the other names under which an entity is accepted as an answer; each means no other entity.

        For namesakes the bracketed title comes first, since their name alone is shared.
        """
        found = [self.title(kind, index), self.stated_alias(kind, index)]
        if kind == "p" and not self.is_namesake(kind, index):
            found.append(f"{self._given(index)[0]}. {self.surname(index)}")
            found.extend([self.surname(index)] if index % NAME_GROUP < 2 else [])
        return tuple(a for a in dict.fromkeys(found) if a and a != self.name(kind, index))

    def asked(self, kind: str, index: int, plain: bool) -> str:
        """Return how a question names an entity: by an alias where there is a safe one, unless `plain`."""
        alias = self.stated_alias(kind, index)
        if kind == "w":
            return f'"{alias if alias and not plain else self.name(kind, index)}"'
        if plain or (not alias and kind != "p"):
            return self.mention(kind, index)
        if alias:
            return alias
        place = index % NAME_GROUP
        if place < 2:
            return self.surname(index)
        return f"{self._given(index)[0]}. {self.surname(index)}" if place < 4 else self.mention(kind, index)

    def is_namesake(self, kind: str, index: int) -> bool:
        """Return whether another person has the same given name and surname (or would in a larger world)."""
        return kind == "p" and index % NAME_GROUP >= 5

    def surname(self, index: int) -> str:
        """Return a person's surname."""
        group, place = divmod(index, NAME_GROUP)
        return self.coined("surname", 4 * group + (0, 1, 2, 2, 3, 3, 3)[place])

    def profession(self, index: int) -> str:
        """Return a person's profession; namesakes never share it."""
        base = self._pick("profession", index - (index % NAME_GROUP == 6), len(PROFESSIONS))
        if index % NAME_GROUP == 6:
            base += 1 + self._pick("second profession", index, len(PROFESSIONS) - 1)
        return PROFESSIONS[base % len(PROFESSIONS)]

    def medium(self, index: int) -> str:
        """Return what a work is: a novel, a film or an album."""
        return MEDIA[self._pick("medium", index, len(MEDIA))]

    def coined(self, kind: str, index: int) -> str:
        """Return the coined word number `index` of a kind of words."""
        endings = ENDINGS[kind]
        stems = len(ONSETS) * len(VOWELS)
        code = self._shuffled(kind, index, len(endings) * stems**self.syllables)
        code, ending = divmod(code, len(endings))
        word = ""
        for _ in range(self.syllables):
            code, stem = divmod(code, stems)
            word += ONSETS[stem // len(VOWELS)] + VOWELS[stem % len(VOWELS)]
        return (word + endings[ending]).capitalize()

    def _given(self, index: int) -> str:
        half = HALVES[index % NAME_GROUP in (3, 5, 6)]
        return half[self._pick("given name", index - (index % NAME_GROUP == 6), len(half))]

    def _organisation(self, words: str, index: int) -> str:
        return f"{self.coined(words, index)} {ORGANISATIONS[self._pick('organisation', index, len(ORGANISATIONS))]}"

    def _title(self, index: int) -> str:
        code = self._shuffled("title", index, len(TITLES) * len(ADJECTIVES) * len(NOUNS) * (len(NOUNS) - 1))
        code, pattern = divmod(code, len(TITLES))
        code, adjective = divmod(code, len(ADJECTIVES))
        step, noun = divmod(code, len(NOUNS))
        other = NOUNS[(noun + 1 + step) % len(NOUNS)]
        return TITLES[pattern].format(a=ADJECTIVES[adjective], n=NOUNS[noun], m=other)

    def _other_title(self, index: int) -> str:
        pattern = OTHER_TITLES[self._pick("other pattern", index, len(OTHER_TITLES))]
        return pattern.format(n=NOUNS[self._pick("other noun", index, len(NOUNS))], x=self.coined("character", index))

    def _shuffled(self, kind: str, index: int, size: int) -> int:
        """Return the place of `index` < size in a fixed shuffle of range(size); nothing is stored.

        Odd factors and shifted xors are bijections of a power of two; walking on until the place is below
        `size` makes one of range(size).
        """
        half = (size - 1).bit_length() // 2 + 1
        mask = (1 << 2 * half) - 1
        if kind not in self._factors:
            self._factors[kind] = tuple(key_int("name-order", self.seed, kind, i) | 1 for i in range(3))
        while True:
            for factor in self._factors[kind]:
                index = (index * factor + (factor >> 40)) & mask
                index ^= index >> half
            if index < size:
                return index

    def _pick(self, kind: str, index: int, size: int) -> int:
        return key_int("name-pick", self.seed, kind, index) % size
