"""How questions word things: per relation noun phrases for its tail ("the place where {x} was born"), and asks.

{x} is a name or another noun phrase; {made} and {maker} fit a work's medium.
"""

PHRASES: dict[str, tuple[str, ...]] = {
    "capital": ("the capital of {x}", "the city from which {x} is governed", "the seat of government of {x}", "the town where the parliament of {x} sits"),
    "president": ("the president of {x}", "the head of state of {x}", "the person at the head of {x}", "the holder of the highest office of {x}"),
    "country": ("the country to which {x} belongs", "the country of {x}", "the state that {x} is part of", "the state whose laws apply in {x}"),
    "governor": ("the governor of {x}", "the person who governs {x}", "the official in charge of {x}", "the person administering {x}"),
    "region": ("the region of {x}", "the region in which {x} lies", "the region around {x}", "the region that {x} is part of"),
    "mayor": ("the mayor of {x}", "the head of the town hall of {x}", "the person elected mayor of {x}", "the person running the council of {x}"),
    "twin_town": ("the twin town of {x}", "the partner town of {x}", "the town twinned with {x}", "the town that {x} has a partnership with"),
    "founder": ("the founder of {x}", "the person who set up {x}", "the person who established {x}", "the person to whom {x} owes its existence"),
    "seat": ("the town where {x} has its seat", "the home town of {x}", "the place from which {x} is run", "the town with the head office of {x}"),
    "birthplace": ("the birthplace of {x}", "the town where {x} was born", "the place of birth of {x}", "the town that {x} was a native of"),
    "mentor": ("the teacher of {x}", "the person under whom {x} studied", "the person who trained {x}", "the person whose pupil {x} was"),
    "employer": ("the employer of {x}", "the organisation that {x} worked for", "the organisation that paid {x}", "the organisation with {x} on its staff"),
    "spouse": ("the spouse of {x}", "the person whom {x} married", "the person married to {x}", "the person {x} was wed to"),
    "author": ("the {maker} of {x}", "the person by whom {x} was {made}", "the person behind {x}", "the person who created {x}"),
    "publisher": ("the publisher of {x}", "the organisation that issued {x}", "the organisation that published {x}", "the organisation that released {x}"),
    "setting": ("the town where {x} is set", "the scene of {x}", "the setting of {x}", "the place where {x} plays"),
    "based_on": ("the work that {x} is based on", "the source of {x}", "the model for {x}", "the work from which {x} takes its plot"),
}  # fmt: skip

ASKS: dict[str, tuple[str, ...]] = {
    "capital": ("What is the capital of {x}?", "From which city is {x} governed?", "In which town does the parliament of {x} sit?", "Which city is the seat of government of {x}?"),
    "president": ("Who is the president of {x}?", "Who is the head of state of {x}?", "Who holds the highest office of {x}?", "Which person presides over {x}?"),
    "independence": ("In which year did {x} become independent?", "When did {x} gain its independence?", "Since which year has {x} been a sovereign state?", "What is the year of independence of {x}?"),
    "country": ("In which country is {x}?", "To which country does {x} belong?", "Which country is {x} a region of?", "What is the name of the country that {x} is part of?"),
    "governor": ("Who is the governor of {x}?", "Who governs {x}?", "Which person is in charge of {x}?", "By whom is {x} administered?"),
    "region": ("In which region is {x}?", "To which region does {x} belong?", "What is the name of the region around {x}?", "Which region is {x} part of?"),
    "mayor": ("Who is the mayor of {x}?", "Who heads the town hall of {x}?", "Which person was elected mayor of {x}?", "Who presides over the council of {x}?"),
    "twin_town": ("What is the twin town of {x}?", "With which town is {x} twinned?", "Which town is the partner of {x}?", "Where does the partnership of {x} lead?"),
    "chartered": ("In which year did {x} receive its town charter?", "When was {x} granted town rights?", "Since which year has {x} been a town?", "What is the date of the charter of {x}?"),
    "founder": ("Who founded {x}?", "Who was the founder of {x}?", "By whom was {x} set up?", "To whom does {x} owe its existence?"),
    "seat": ("In which town does {x} have its seat?", "Where is {x} based?", "Where does the head office of {x} stand?", "From which town is {x} run?"),
    "founded": ("In which year was {x} founded?", "When was {x} established?", "Since which year has {x} existed?", "When did {x} start its work?"),
    "birthplace": ("Where was {x} born?", "In which town was {x} born?", "What is the place of birth of {x}?", "Which town was {x} a native of?"),
    "birth_year": ("In which year was {x} born?", "When was {x} born?", "What is the year of birth of {x}?", "In what year did the life of {x} begin?"),
    "mentor": ("Who taught {x}?", "Under whom did {x} study?", "Who was the teacher of {x}?", "Whose pupil was {x}?"),
    "employer": ("For which organisation did {x} work?", "Who employed {x}?", "Which organisation was the employer of {x}?", "Where did {x} hold a post?"),
    "spouse": ("Whom did {x} marry?", "Who was the spouse of {x}?", "To whom was {x} married?", "With whom did {x} take vows?"),
    "author": ("Who is the {maker} of {x}?", "By whom was {x} {made}?", "Who created {x}?", "Whose work is {x}?"),
    "publisher": ("Who published {x}?", "Which organisation issued {x}?", "Which organisation is the publisher of {x}?", "By which organisation was {x} released?"),
    "setting": ("Where is {x} set?", "In which town does {x} take place?", "Which town is the scene of {x}?", "What is the setting of {x}?"),
    "based_on": ("On which work is {x} based?", "What is the title of the work that {x} adapts?", "From which work does {x} take its plot?", "Which work served as the model for {x}?"),
    "year": ("In which year did {x} appear?", "When did {x} come out?", "In what year was {x} first released?", "What is the year of the first edition of {x}?"),
}  # fmt: skip

JOINS: dict[tuple[str, str], tuple[str, ...]] = {
    ("author", "publisher"): ("the work by {x} that was published by {y}", "the work that {x} created and {y} brought out", "the one work of {x} issued by {y}"),
    ("author", "setting"): ("the work by {x} that is set in {y}", "the one work of {x} with its scene in {y}", "the work that {x} created and that plays in {y}"),
    ("setting", "publisher"): ("the work set in {x} that was published by {y}", "the one work that plays in {x} and was issued by {y}", "the work with its scene in {x} that {y} brought out"),
    ("birthplace", "employer"): ("the person born in {x} and employed by {y}", "the one native of {x} who worked for {y}", "the person from {x} who was on the staff of {y}"),
    ("mentor", "employer"): ("the pupil of {x} who worked for {y}", "the person taught by {x} and employed by {y}", "the one student of {x} on the staff of {y}"),
    ("mentor", "birthplace"): ("the pupil of {x} who was born in {y}", "the one student of {x} native to {y}", "the person taught by {x} and born in {y}"),
}  # fmt: skip
"""Phrases for the only entity that has both tails."""

NAME_ASKS = {
    "w": ("What is the title of {x}?", "Name {x}.", "What is {x} called?", "Which title does {x} bear?"),
    "p": ("Who is {x}?", "Name {x}.", "What is the name of {x}?", "Which person is {x}?"),
}

PAIRS = (
    "Consider {x} and {y}.",
    "Take {x} and, on the other hand, {y}.",
    "Two are to be compared: {x} and {y}.",
    "Look at both {x} and {y}.",
)
FIRSTS: dict[str, dict[bool, tuple[str, ...]]] = {
    "k": {
        True: ("the one that became independent earlier", "the one sovereign for longer", "the country with the earlier independence"),
        False: ("the one that became independent later", "the one sovereign for less time", "the country with the later independence"),
    },
    "c": {
        True: ("the one chartered earlier", "the one with the older town rights", "the town with the earlier charter"),
        False: ("the one chartered later", "the one with the younger town rights", "the town with the later charter"),
    },
    "o": {
        True: ("the one founded earlier", "the older one", "the organisation that was established first"),
        False: ("the one founded later", "the younger one", "the organisation that was established last"),
    },
    "p": {
        True: ("the one born earlier", "the older one", "the person whose birth came first"),
        False: ("the one born later", "the younger one", "the person whose birth came last"),
    },
}  # fmt: skip
"""Per type how a comparison calls its winner, for the earlier (True) and the later year."""
ORDER_STATEMENTS = {
    "k": "{h} became independent {order} {t}",
    "c": "{h} was chartered {order} {t}",
    "o": "{h} was founded {order} {t}",
    "p": "{h} was born {order} {t}",
}
