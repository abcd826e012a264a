"""Every word that a world of the closed setting may hold."""

# Word lists are easier to read and to extend as text.
# ruff: noqa: SIM905

PEOPLE = tuple(
    """Ada Agnes Alba Alma Amir Anton Arne Astrid Bela Bianca Bjorn Boris Bruno Carla Cedric Celia Clara Cora Dario
    Delia Dmitri Dora Edgar Edith Elena Elif Elmar Emil Enzo Erik Esther Fabio Felix Fiona Flora Frida Gaspar Greta
    Gunnar Hanna Hassan Hector Helga Hugo Ibrahim Ida Igor Ilse Ingrid Irma Ivan Jakob Jamila Jonas Judith Julio Karim
    Katya Klara Konrad Lars Leila Leon Linus Lotte Luca Magda Malik Marco Marta Matteo Mila Milos Mira Nadia Nils Nora
    Olga Omar Oskar Otto Pavel Petra Quentin Rafael Rosa Ruben Samira Selma Sigrid Stefan Tamar Tomas Ulla Viktor
    Yusuf""".split()
)
CITIES = tuple(
    """Ardmoor Belcastle Brindale Calvora Corvane Dunmere Elvast Farholt Garnow Halverd Istrava Jorvale Kelmont Larnock
    Lund Mirefield Nantova Ostwick Pelgrad Quorley Ravensea Selbourg Tarnis Ulmstad Varlow Westry Wynmouth Xantar
    Yarrowby Zelnik Thornby Oldhaven""".split()
)
COUNTRIES = tuple("Arcadon Borelia Cardova Estmark Galvia Kestoria Norland Ostrana Sundria Velmark".split())
WORKS = tuple(
    """Amberglass Arrowroot Ashlight Bellflower Birdsong Blackthorn Bonfire Brightwater Candlelight Clockwork Crossroads
    Daybreak Driftwood Dustbowl Eclipse Evergreen Fairwind Firefly Foxglove Gaslight Goldleaf Halfmoon Harvest Heartwood
    Hourglass Icebound Ivory Jackdaw Kingfisher Labyrinth Lighthouse Milestone Moonrise Nightfall Oleander Overture
    Paperboat Quicksilver Rainfall Saltmarsh Sandstorm Silverfish Snowdrift Starboard Sundial Thunder Undertow
    Windmill""".split()
)
PAGE_WORDS = ("born", "married", "by", "in", ".")
QUESTION_WORDS = ("birthplace", "homeland", "author", "spouse", "of", "?")
"""No word but punctuation stands in both pages and questions: a search for a whole question finds its name's pages."""


def closed_vocabulary() -> tuple[str, ...]:
    """Return every token that passages, titles and questions of closed worlds may hold, in a fixed order.

    Texts are split at white space; punctuation is a token of its own.
    """
    return PAGE_WORDS + QUESTION_WORDS + PEOPLE + CITIES + COUNTRIES + WORKS
