"""The records that scorers are probed with: episodes by hand, as typed events."""

from collections.abc import Sequence
from dataclasses import replace

from agentgym import schema
from agentgym.task import Answer, Entity, Gold, Nugget, Rubric
from agentgym.types import Change, DocRef, Message, ToolCall, ToolResult, Trajectory, Turn

QUESTION = "Where was the director of Blue Harbour born?"
PROMPT = (Message.of("system", "Search, then answer."), Message.of("user", QUESTION))
FILM = DocRef("film-31", "Blue Harbour", "Blue Harbour is a film of 1961. Mira Halvorsen directed it.")
PERSON = DocRef("person-12", "Mira Halvorsen", "M. Halvorsen, an artist, was born in Port Elm in 1931.")
OTHER = DocRef("x-1", "Tor Lind", "Tor Lind knew Blue Harbour. Elm Street is in Port Ely.")
NOTHING = DocRef("n-1", "Nothing", "Nothing is here.")
CITY = DocRef("city-2", "Pört Elm", "The port-elm has 1,961 people.")
FULL = Gold(
    answers=(Answer("Port Elm", ("Elm Port", "P. Elm"), "entity"),),
    entities=(
        Entity("film", "Blue Harbour", role="start"),
        Entity("E1", "Mira Halvorsen", ("M. Halvorsen",), 1),
        Entity("E2", "Tor Lind", (), 1, "constraint"),
        Entity("E0", "Port Elm", (), 2, "answer"),
    ),
    doc_ids=("film-31", "person-12"),
    path=(("film", "directed_by", "E1"), ("E1", "born_in", "E0")),
    path_doc_ids=("film-31", "person-12"),
    rubrics=(
        Rubric("r1", "<E1> directed Blue Harbour"),
        Rubric("r2", "<E1> was born in <E0>", 2.0),
        Rubric("r3", "<E2> knew <E1>"),
    ),
    nuggets=(
        Nugget("n1", "Mira Halvorsen directed Blue Harbour.", ("film-31",)),
        Nugget("n2", "Mira Halvorsen was born in Port Elm.", ("person-12",), vital=False, weight=2.0),
    ),
)
PLAIN = Gold(answers=(Answer("Port Elm", ("Elm Port",)),))
YES = Gold(answers=(Answer("yes"),), doc_ids=("film-31",))
NUMBER = replace(FULL, answers=(Answer("1,961", ("1961 km",), "number", "km", 0.5),))
SHORT = replace(FULL, answers=(Answer("art"), Answer("The The")))
OTHER_SCRIPT = replace(FULL, answers=(Answer("Лев Толстой", ("?!", "李白")),))
ALL = replace(FULL, answers=(Answer("Port Elm", ("P. Elm",)), Answer("Tor Lind")), answer_mode="all")


def look(query: str, *documents: DocRef, ok: bool = True, code: str = "", thought: str = "", name: str = "search") -> Turn:
    """Return a turn with one call that shows documents."""
    key = "query" if name == "search" else "doc_id"
    shown = "\n".join(f"{d.title}\n{d.text}" for d in documents) or "nothing found"
    result = ToolResult("c1", name, ok, [d.id for d in documents], code, "failed" if code else "", documents)
    return Turn(0, f"<{name}>{query}</{name}>", (ToolCall(name, {key: query}, "c1"),), (result,),
                messages=(Message.of("user", shown),), thought=thought)  # fmt: skip


def bad(code: str = "E_PARSE", thought: str = "") -> Turn:
    """Return a turn that is no action."""
    return Turn(0, "???", error_code=code, error="no", messages=(Message.of("user", f"{code} no"),), thought=thought)


def both(first: Turn, second: Turn) -> Turn:
    """Return one turn with the calls of two."""
    return replace(first, calls=(*first.calls, *second.calls), results=(*first.results, *second.results))


def kept(*triples: tuple[str, str, str]) -> Turn:
    """Return a turn of a graph family that keeps triples."""
    events = {"triples": [list(t) for t in triples], "kept": [list(t) for t in triples]}
    return Turn(0, "keep", (ToolCall("keep", {"ids": [1]}, "c1"),), (ToolResult("c1", "keep", True, [], events=events),))


def moved(turn: Turn, *changes: Change) -> Turn:
    """Return the turn with what it did to the state."""
    return replace(turn, changes=changes)


def record(
    gold: Gold, turns: Sequence[Turn], answer: str | None = None, cited: Sequence[str] = (), *, end: str = "", thought: str = ""
) -> Trajectory:
    """Return the record of an episode; an answer adds the turn that gives it."""
    given = list(turns)
    if answer is not None:
        call = ToolCall("answer", {"text": answer, "citations": list(cited)}, "c1")
        result = ToolResult("c1", "answer", True, {"answer": answer})
        given.append(Turn(0, f"<answer>{answer}</answer>", (call,), (result,), thought=thought))
    reason = end or ("answered" if answer is not None else "max_turns")
    return Trajectory(
        id="probe",
        env_id="",
        task_id="probe",
        prompt=PROMPT,
        turns=tuple(replace(t, index=n) for n, t in enumerate(given)),
        question=QUESTION,
        answer=answer,
        citations=tuple(cited),
        end_reason=reason,
        terminated=answer is not None,
        truncated=answer is None,
        gold=schema.to_json(gold),
        info={"progress": 0.25},
    )


_HOP1, _HOP2 = look("director of Blue Harbour", FILM, OTHER), look("birthplace of Mira Halvorsen", PERSON, NOTHING)
_WRITINGS = {
    "plain": "Port Elm",
    "case": "  port ELM. ",
    "article": "the Port Elm",
    "quotes": "“Port Elm”",
    "wide": "Ｐｏｒｔ Ｅｌｍ",
    "accent": "Pórt Élm",
    "invisible": "Port\u200b Elm",
    "hyphen": "Port-Elm",
    "alias": "P. Elm",
    "sentence": "She was born in Port Elm, they say.",
    "list": "Oslo, Paris, Rome, Port Elm, Bonn, Lima, Kyiv, Nice, Bern, Turin",
    "two words more": "Port Elm Harbour Town",
    "twice": "Port Elm Port Elm",
    "part": "Port",
    "inside a word": "Newport Elmwood",
    "look-alike": "Роrt Elm",
    "empty": "",
    "article alone": "the",
    "symbols": "?!",
    "other": "Oslo",
    "order": "Elm, Port",
    "alternatives": "Port Elm or Oslo",
    "newline": "Port\nElm",
    "set": '["P. Elm", "Tor Lind"]',
    "half a set": '["Port Elm"]',
    "copied": f"{FILM.text} {PERSON.text}",
}
_NUMBERS = ("1961", "1,961 km", "1961.4 km", "1962", "-1961", "1961 miles", "1.961", "1961 or 1962", "19 61", "km", "1.961e3 km")
_SHORTS = ("art", "Bart", "art of war", "The The", "the", "arts", "yes", "no", "yes and no", "C#", "#art", "1.5", "15")

STATE = replace(PLAIN, final_state={"done": True, "n": 2})
_START = {"done": False, "n": 2}


def _stateful(*turns: Turn) -> Trajectory:
    return replace(record(STATE, turns, "Port Elm"), initial_state=_START)


RECORDS: dict[str, Trajectory] = {
    **{f"answer, {n}": record(FULL, [_HOP1, _HOP2], text, ["film-31", "person-12"]) for n, text in _WRITINGS.items()},
    **{f"only answers, {n}": record(PLAIN, [_HOP1, _HOP2], _WRITINGS[n]) for n in ("plain", "alias", "other")},
    **{f"number {text}": record(NUMBER, [_HOP1], text) for text in _NUMBERS},
    **{f"short {text}": record(SHORT, [_HOP1], text) for text in _SHORTS},
    **{f"yes-no {text}": record(YES, [_HOP1], text) for text in ("yes", "Yes.", "no", "yes it is", "yes and no")},
    **{f"number, {text}": record(OTHER_SCRIPT, [_HOP1], text) for text in ("лев толстой", "«Лев Толстой»", "Лев Толстои", "李 白", "李白", "Лев", "x")},
    **{f"all {text}": record(ALL, [_HOP1], text) for text in ("Port Elm", "Port Elm, Tor Lind", '["P. Elm", "Tor Lind"]',
       '["Tor Lind", "Tor Lind"]', "P. Elm; Oslo; Tor Lind", '["Port Elm", "Tor Lind", "Oslo"]', "")},
    "no answer": record(FULL, [_HOP1, _HOP2, look("more", NOTHING)]),
    "cut by tokens": record(FULL, [_HOP1, _HOP2], end="max_tokens"),
    "service fault": record(FULL, [_HOP1], end="service_error"),
    "no turn": record(FULL, [], end="max_tokens"),
    "answer at once": record(FULL, [], "Port Elm"),
    "both hops at once": record(FULL, [both(_HOP1, _HOP2)], "Port Elm", ["film-31"]),
    "the other way round": record(FULL, [_HOP2, _HOP1], "Port Elm", ["person-12", "film-31"]),
    "same hit again": record(FULL, [_HOP1, look("who made it", FILM), look("Blue Harbour film", OTHER, FILM)], "Oslo"),
    "same query again": record(FULL, [_HOP1, look("the director of  Blue Harbour!", PERSON), _HOP2], "Port Elm"),
    "half repeated": record(FULL, [_HOP1, look("a", FILM, NOTHING), look("b", FILM, NOTHING, CITY)], "Oslo"),
    "all repeated but one": record(FULL, [look("a", FILM, OTHER, NOTHING), look("b", FILM, OTHER, CITY)], "Oslo"),
    "opened twice": record(FULL, [_HOP1, look("film-31", FILM, name="open"), look("film-31", FILM, name="open")], "Oslo"),
    "failed calls": record(FULL, [look("x", FILM, PERSON, ok=False, code="E_TOOL"), _HOP1], "Port Elm"),
    "service failed": record(FULL, [look("x", ok=False, code="E_SERVICE"), _HOP1, _HOP2], "Port Elm"),
    "over budget": record(FULL, [_HOP1, look("x", ok=False, code="E_BUDGET"), _HOP2], "Port Elm", ["film-31"]),
    "bad actions": record(FULL, [bad(), _HOP1, bad("E_ARGS"), _HOP2, bad("E_MULTI")], "Port Elm"),
    "forged once": record(FULL, [_HOP1, bad("E_RESERVED"), _HOP2], "Port Elm"),
    "forged thrice": record(FULL, [bad("E_RESERVED"), bad("E_RESERVED"), bad("E_RESERVED")], end="too_many_invalid"),
    "costs beyond the cap": record(FULL, [bad(), bad("E_ARGS"), _HOP1, bad(), bad(), _HOP2, bad()], "Port Elm"),
    "long": record(FULL, [look(f"q{n}", NOTHING) for n in range(9)] + [_HOP1, _HOP2], "Oslo"),
    "loop": record(FULL, [_HOP1, _HOP1, _HOP1], end="loop"),
    "thinks after": record(FULL, [_HOP1, replace(_HOP2, thought="Mira Halvorsen directed it")], "Oslo", thought="Tor Lind?"),
    "thinks before": record(FULL, [replace(_HOP1, thought="Mira Halvorsen, Tor Lind, Port Elm"), _HOP2], "Oslo"),
    "thinks in a bad action": record(FULL, [_HOP1, bad(thought="Mira Halvorsen"), _HOP2], "Port Elm", thought="M. Halvorsen"),
    "thinks a list": record(FULL, [look("a", *(DocRef(f"t{n}", f"Title {n}", "t") for n in range(40))), _HOP1],
                            "Oslo", thought="Mira Halvorsen " + " ".join(f"Title {n}" for n in range(40))),
    "cites one": record(FULL, [_HOP1, _HOP2], "Port Elm", ["person-12"]),
    "cites unseen": record(FULL, [_HOP1], "Port Elm", ["film-31", "person-12", "ghost"]),
    "cites wrongly": record(FULL, [_HOP1, _HOP2], "Port Elm", ["x-1", "n-1"]),
    "cites twice": record(FULL, [_HOP1, _HOP2], "Port Elm", ["film-31", "film-31", "x-1", "person-12"]),
    "cites too many": record(FULL, [_HOP1, _HOP2], "Port Elm", [*(f"g{n}" for n in range(25)), "film-31", "person-12"]),
    "cites nothing": record(FULL, [_HOP1, _HOP2], "Port Elm"),
    "says it elsewhere": record(PLAIN, [look("a", CITY), look("b", OTHER), look("c", PERSON)], "Port Elm"),
    "opened page adds text": record(PLAIN, [look("a", replace(PERSON, text="M. Halvorsen")), look("p", PERSON, name="open")], "Oslo"),
    "keeps a path": record(FULL, [kept(FULL.path[0]), kept(*FULL.path), kept(*FULL.path, ("a", "b", "c"))], "Port Elm"),
    "looks and keeps": record(FULL, [_HOP1, kept(FULL.path[0]), kept(("a", "b", "c")), _HOP2, kept(*FULL.path)], "Port Elm"),
    "keeps, then looks": record(FULL, [kept(*FULL.path), kept(("a", "b", "c")), _HOP1, kept(*FULL.path), _HOP2], "Oslo"),
    "keeps to the limit": record(FULL, [_HOP1, kept(*FULL.path), _HOP2]),
    "rubrics without nuggets": record(replace(FULL, nuggets=()), [_HOP1, _HOP2], "Port Elm", ["person-12", "x-1", "film-31"]),
    "rubrics, only others cited": record(replace(FULL, nuggets=()), [_HOP1, _HOP2, look("c", CITY)], "Port Elm", ["x-1", "city-2"]),
    "rubrics without documents": record(replace(FULL, nuggets=(), doc_ids=()), [_HOP1, _HOP2], "Port Elm", ["film-31", "person-12"]),
    "one call of two fails": record(FULL, [both(_HOP1, look("x", PERSON, ok=False, code="E_TOOL")), _HOP2], "Port Elm"),
    "the hit's turn fails in part": record(FULL, [_HOP1, both(_HOP2, look("x", ok=False, code="E_SERVICE"))], "Port Elm"),
    "state reached": _stateful(_HOP1, moved(_HOP2, Change(("done",), True))),
    "state left": _stateful(moved(_HOP1, Change(("done",), True)), moved(_HOP2, Change(("n",), 3))),
    "no prompt": replace(record(FULL, [_HOP1, _HOP2], "Port Elm"), prompt=()),
    "prompt without user": replace(record(FULL, [_HOP1, _HOP2], "Port Elm"), prompt=PROMPT[:1]),
    "shows nothing": record(FULL, [replace(_HOP1, messages=()), _HOP2], "Port Elm"),
    "says less than it cites": record(FULL, [look("a", replace(FILM, text="A film.")), _HOP2], "Port Elm", ["film-31", "person-12"]),
    "yes-no without documents": record(replace(YES, doc_ids=()), [_HOP1, _HOP2], "yes"),
    "rubrics without entities": record(replace(FULL, nuggets=(), entities=(), path=(), rubrics=(Rubric("r1", "<E0> is a town"), Rubric("r2", "<E0>", 0.5))), [_HOP1, _HOP2], "Port Elm", ["person-12"]),
    "keeps and drops": record(FULL, [kept(("a", "b", "c")), kept(*FULL.path), kept(FULL.path[1])], "Oslo"),
}  # fmt: skip
"""Name -> record."""
