"""Published rewards as expressions: their numbers, and the table of docs/rewards.md."""

import json
import re
import warnings
from pathlib import Path

import pytest
from reward_episodes import Fixed, outcome, play, potential, search

from agentgym.rewards import (
    Cap,
    Expression,
    Gate,
    MaxNorm,
    Mean,
    OnlyIf,
    Product,
    Schedule,
    Suite,
    build_suite,
)
from agentgym.types import Trajectory

pytestmark = pytest.mark.filterwarnings("ignore:suite")
ROOT = Path(__file__).parents[3]
GOLDEN = json.loads((ROOT / "tests/golden/reward_algebra.json").read_text(encoding="utf-8"))
ROW = re.compile(r"\| ([^|`]+) \| `([^`]+)` \| (\w+) \| (\S+) … (\S+) \| (\S+) … (\S+) \| (\S+) \|")
TABLE = [m.groups() for m in map(ROW.fullmatch, (ROOT / "docs/rewards.md").read_text(encoding="utf-8").splitlines()) if m]


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_the_table_of_the_documentation_is_what_bounds_gives(row: tuple[str, ...]) -> None:
    _, expression, success, *numbers = row
    bounds = build_suite({"expression": expression, "outcome": success}).bounds()
    shown = [f"{x:g}" for x in (*bounds.failure, *bounds.success, bounds.margin)]
    assert shown == numbers


def test_the_table_names_every_system() -> None:
    assert len(TABLE) == 12


def group_totals(expression: Expression, success: Fixed, rows: list[dict[str, float]], turns: int = 1) -> list[float]:
    """Totals of a group whose members give these raw values."""
    suite = Suite(expression, success)
    parts = [c for c in suite.components.values() if isinstance(c, Fixed)]
    played: list[Trajectory] = []
    for i, row in enumerate(rows):
        for part in parts:
            part.numbers = (row[part.name],)
        played.append(play(suite, [search("a")] * turns, name=str(i)).with_(group_id="g"))
    return [t.total for t in suite.complete(played)]


def test_e_grpo() -> None:
    won, entity = outcome(), Fixed("entity", [0.0])
    for case, wins in (("mixed", (1, 0, 0, 0)), ("all_wrong", (0, 0, 0, 0))):
        gold = GOLDEN["e_grpo"][case]
        clean = Fixed("clean", [1.0])
        flags = (1, 1, 1, 0) if case == "mixed" else (1, 1, 1, 1)  # the fourth of the mixed group erred, and sets the maximum
        rows = [{"won": w, "entity": g, "clean": c} for w, g, c in zip(wins, gold["gamma"], flags, strict=True)]
        total = group_totals(won + OnlyIf(0, Gate(clean, 0.3 * MaxNorm(entity))), won, rows)
        assert total == pytest.approx(gold["reward"], abs=1e-6)


def test_c_grpo() -> None:
    gold, won, rubric = GOLDEN["c_grpo"], outcome(), Fixed("rubric", [0.0])
    rows = [{"won": w, "rubric": r} for w, r in zip(gold["outcome"], gold["rubric"], strict=True)]
    forms = {
        "paper": Gate(won, 0.3 * MaxNorm(rubric), 0.7),
        "released_code_positive_only": Gate(won, 0.3 * rubric, 0.7),
        "mixed": 0.7 * won + 0.3 * MaxNorm(rubric),
    }
    for name, expression in forms.items():
        assert group_totals(expression, won, rows) == pytest.approx(gold[name]), name


def test_smartsearch() -> None:
    for case, total in GOLDEN["smartsearch"]["composite"].items():
        won, wrong, good = (int(x) for x in re.findall(r"=(\d+)", case))
        end = outcome(value=won)
        bad = Fixed("bad", [-wrong], scope="turn", supply="cost", range=(-9.0, 0.0))
        fine = Fixed("fine", [good], scope="turn", supply="unbounded", range=(0.0, 9.0))
        expression = end + OnlyIf(1, Cap(0.1 * bad, -0.4, 0.0)) + OnlyIf(0, Cap(0.1 * fine, 0.0, 0.4))
        suite = Suite(expression, end)
        assert play(suite, [search("a")]).total == pytest.approx(total)
        assert (suite.bounds().failure, suite.bounds().success) == ((0.0, 0.4), (0.6, 1.0))


def test_search_r2_and_atom_searcher_and_tau() -> None:
    for case, total in GOLDEN["search_r2"].items():
        won, useful = json.loads(f"[{case}]")
        end, density = outcome(value=won), Fixed("density", [sum(useful) / max(1, len(useful))])
        assert play(Suite(Gate(end, density, 1), end), [search("a")]).total == pytest.approx(total)
    f1, atoms = Fixed("f1", [0.4]), Fixed("atoms", [0.8])
    suite = Suite(Schedule(atoms, [0.5, 0.0]) + Schedule(f1, [0.5, 1.0]), f1)
    for case, row in GOLDEN["atom_searcher"].items():
        progress = int(re.findall(r"\d+", case)[0]) / 100
        assert play(suite, [search("a")], progress=progress).total == pytest.approx(row["R(atr=.8,f1=.4)"])
    for told in (0, 1):
        state, said = outcome("state", 1.0), Fixed("said", [told])
        assert play(Suite(Product(state, said), state), [search("a")]).total == GOLDEN["tau2"][f"product(DB=1,COMM={told})"]


def test_toolrl_and_kg_r1() -> None:
    end = outcome()
    for case, share in (("exact", 1.0), ("wrong_tool", 0.0)):
        match = Fixed("match", [share], scope="turn", supply="once", range=(0.0, 1.0))
        played = play(Suite(6 * match - 3 + Fixed("format", [1.0]), end), [search("a")])
        assert played.total == GOLDEN["toolrl_total_with_format1"][case]
    ((turns, total),) = GOLDEN["kg_r1"].values()
    flag = Fixed("flag", turns, scope="turn", supply="unbounded")
    f1, shown = Fixed("f1", [0.8], failure_max=0.0), Fixed("shown", [1.0])
    suite = Suite(Mean(flag) + 0.5 * f1 + 0.5 * shown, f1)
    assert play(suite, [search(str(i)) for i in range(3)]).total == pytest.approx(total, abs=1e-6)


def test_bounds_match_all_golden_presets() -> None:
    won, clean, rubric = outcome("won"), Fixed("clean", [1.0]), Fixed("rubric", [0.0])
    dense, flag = potential("dense", []), Fixed("flag", [], scope="turn", supply="unbounded")
    costs = Cap(0.1 * Fixed("bad", [], scope="turn", supply="cost", range=(-1.0, 0.0)), -0.3, 0)
    common = won + 0.1 * clean + costs
    cited = Gate(won, 0.3 * rubric)
    good = Fixed("good", [], scope="turn", supply="unbounded")
    bad = Fixed("wrong", [], scope="turn", supply="cost", range=(-1.0, 0.0))
    suites = {
        "search: em+cap(.2 IG,±.2)+gate .3 rubric+.1 all_valid, costs<=.3": common + Cap(0.2 * dense, -0.2, 0.2) + cited,
        "search with IG weight 1 uncapped [-1,1]": common + dense + cited,
        "search_gated (dense paid only when wrong, retrospectively)": common + OnlyIf(0, Cap(0.3 * dense, 0, 0.3)) + cited,
        "graph: set_f1+cap(.2 path,±.2)": common + Cap(0.2 * dense, -0.2, 0.2),
        "tools: state+.2 trace [-.5,1]": common + 0.2 * potential("trace", [], range=(-0.5, 1.0)),
        "gui: success+.2 action_match": common + 0.2 * potential("match", [], range=(0.0, 1.0)),
        "e_grpo alpha=.3": won + OnlyIf(0, 0.3 * MaxNorm(rubric)),
        "smartsearch defaults": won + OnlyIf(1, Cap(0.1 * bad, -0.4, 0)) + OnlyIf(0, Cap(0.1 * good, 0, 0.4)),
        "kg_r1 released weights": Mean(flag) + 0.5 * won + 0.5 * rubric,
        "search_r1 ladder": Gate(won, 0.2 * clean, 0.8) + OnlyIf(0, 0.2 * clean + 0.1 * rubric),
    }
    names = {name.partition(" (f1")[0] for name in GOLDEN["preset_bounds"]}
    assert set(suites) == names - {"toolrl"}
    for name, expression in suites.items():
        gold = GOLDEN["preset_bounds"][name]
        bounds = Suite(expression, won).bounds()
        failed = next(value for key, value in gold.items() if key.startswith("outcome0"))
        passed = next(value for key, value in gold.items() if key.startswith("outcome1"))
        assert bounds.failure == pytest.approx(failed), name
        assert bounds.success == pytest.approx(passed), name
        assert bounds.margin == pytest.approx(gold["margin"]), name


def test_the_presets_have_the_margins_of_their_table() -> None:
    table = {"search": 0.2, "search_ig": 0.2, "search_cited": 0.2, "search_gated": 0.3, "graph": 0.2, "tools": 0.3, "gui": 0.4}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, margin in table.items():
            assert build_suite(name).bounds().margin == pytest.approx(margin), name
            assert build_suite(name).is_causal == (name != "search_gated")
