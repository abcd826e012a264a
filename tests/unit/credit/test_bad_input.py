"""Missing, wrong and degenerate input: a defined result, or an error that names group and turn."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from agentgym.credit import RECIPES, CreditConfig, CreditResult, advantages, advantages_from_arrays, recipe_of, spread
from agentgym.credit import scales as settings
from agentgym.errors import ConfigError, DataError
from agentgym.types import Group, Message, Score, Trajectory, Turn

NAN, INF = float("nan"), float("inf")
PLAIN = CreditConfig(turn_weight=1.0, scale="none")
EXTRAS: dict[str, Any] = {
    "state": [[0, 1], [0, 2], [0, 1], [0, 1]], "entropy": [[0.5, 0.2], [0.1, 0.4], [0.3, 0.3], [0.2, 0.2]],
    "channels": [[1, 0], [0, 1], [1, 1], [0, 0]], "items": np.ones((4, 2, 1)), "eligible": np.ones((4, 2, 1)),
    "item_weights": [1.0], "mode_support": np.ones((4, 3, 1)), "mode_reliability": np.ones((4, 1)),
    **{f"score:{n}": [0.1, 0.2, 0.3, 0.4] for n in ("entity_match", "citation_rubric", "atomic_thought", "self_aligned")},
    **{n: [[0.5, 0.2], [0.1, 0.4], [0.3, 0.3], [0.2, 0.2]] for n in ("accuracy", "confidence", "log_ratio")},
    "masked": np.zeros((4, 2)), "n_tokens": [5, 9, 7, 7], "mean_logprob": [-0.5, -0.1, -0.3, -0.2],
    **{f"continued_{n}": [[NAN, 0.5, NAN], [NAN, NAN, NAN], [0.1, 0.4, 0.2], [NAN, 0.1, 0.3]] for n in ("outcome", "turns")},
}  # fmt: skip
ALL = sorted(RECIPES.names())


def run(
    turns: Sequence[Sequence[float]], outcome: Sequence[float], group: Sequence[Any], *,
    config: CreditConfig = PLAIN, mask: Any = None, extras: Mapping[str, Any] | None = None, **more: Any,
) -> CreditResult:  # fmt: skip
    values = np.array(turns, float)
    mask = np.ones(values.shape, bool) if mask is None else np.array(mask, bool)
    return advantages_from_arrays(values, mask, outcome, group, config=config, extras=extras, **more)


def batch(config: CreditConfig, **more: Any) -> CreditResult:
    turns, mask = [[1.0, 0.5], [0.2, NAN], [0.3, 0.1], [0.0, 0.7]], [[1, 1], [1, 0], [1, 1], [1, 1]]
    return run(turns, [1, 0, 1, 0], ["a", "a", "b", "b"], config=config, mask=mask, extras=EXTRAS, **more)


# ---- the rows of the table of edge cases


@pytest.mark.parametrize("name", ALL)
def test_equal_scores_give_nothing_and_no_nan(name: str) -> None:
    even = {**EXTRAS, **{n: np.full_like(np.asarray(v, float), 0.25) for n, v in EXTRAS.items() if n != "state"}}
    config = CreditConfig(recipe=name, options={"zeta": 0.0} if name == "empg" else {})
    got = run([[0.3, 0.3]] * 4, [1.0] * 4, [0, 0, 0, 0], config=config, extras=even)
    if name in ("noisy_forward", "frozen"):  # no baseline by their definition
        assert np.isfinite(got.values).all()
    elif name in ("gigpo", "igpo", "counterfactual"):  # these compare turns of different index: nobody is better
        np.testing.assert_allclose(got.values, np.tile(got.values[0], (4, 1)), atol=1e-12)
    else:
        np.testing.assert_allclose(got.values, 0.0, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_lone_members_empty_batches_and_all_masked_rows_are_finite(name: str) -> None:
    config = CreditConfig(recipe=name)
    lone = run([[1.0, 2.0]] * 4, [1, 0, 1, 0], ["a", "b", "c", "d"], config=config, extras=EXTRAS)
    assert np.isfinite(lone.values).all()
    # matchtir keeps raw values as released, igpo and counterfactual compare an episode's own turns, the others have no
    # group baseline
    if name not in ("matchtir", "igpo", "counterfactual", "noisy_forward", "empg", "gdpo", "spae", "frozen"):
        assert not lone.values.any()
    masked = batch(config, in_statistics=[0] * 4, in_loss=[0] * 4)
    assert not masked.values.any()
    unseen = batch(config, in_statistics=[0] * 4)
    assert np.isfinite(unseen.values).all()
    nothing = {n: np.zeros((0, *np.asarray(v).shape[1:])) if n != "item_weights" else v for n, v in EXTRAS.items()}
    assert run(np.zeros((0, 2)), [], [], config=config, extras=nothing).values.shape == (0, 2)  # pyright: ignore[reportArgumentType]
    none = {n: v for n, v in EXTRAS.items() if np.asarray(v).ndim < 2 or n == "channels"}
    shapes = dict.fromkeys(("state", "entropy", "accuracy", "confidence", "log_ratio", "masked"), (4, 0))
    shapes |= dict.fromkeys(("continued_outcome", "continued_turns"), (4, 1))
    shapes |= {"items": (4, 0, 1), "eligible": (4, 0, 1), "mode_support": (4, 1, 1)}
    none |= {n: np.zeros(s) for n, s in shapes.items()} | {"mode_reliability": np.ones((4, 1))}
    assert run(np.zeros((4, 0)), [1, 0, 1, 0], [0, 0, 1, 1], config=config, extras=none).values.shape == (4, 0)  # pyright: ignore[reportArgumentType]
    assert all(np.isfinite(v) for v in (*lone.metrics.values(), *masked.metrics.values(), *unseen.metrics.values()))


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("empg", "gdpo", "spae", "prime")])  # those look at the batch
def test_groups_of_unequal_size_are_taken_one_by_one(name: str) -> None:
    config = CreditConfig(recipe=name)
    sizes, rng = (3, 1, 5), np.random.Generator(np.random.PCG64(3))
    n, group = sum(sizes), np.repeat(np.arange(3), sizes)
    turns, outcome = rng.normal(size=(n, 2)), rng.integers(0, 2, n)
    extras = {k: v if k == "item_weights" else rng.integers(0, 2, (n, *np.asarray(v).shape[1:])) for k, v in EXTRAS.items()}
    whole = run(turns, outcome, group, config=config, extras=extras).values  # pyright: ignore[reportArgumentType]
    for g in range(3):
        rows = group == g
        own = {k: v if k == "item_weights" else v[rows] for k, v in extras.items()}
        part = run(turns[rows], outcome[rows], group[rows], config=config, extras=own).values
        np.testing.assert_allclose(whole[rows], part, atol=1e-12)


def test_fewer_members_than_the_least_count_at_a_turn_are_left_out_of_it() -> None:
    mask = [[1, 1], [1, 1], [1, 0]]
    config = CreditConfig(recipe="cm2", options={"form": "turn", "min_count": 3})
    got = run([[1, 1], [0, 0], [0, 0]], [0, 0, 0], [0, 0, 0], mask=mask, config=config).values
    np.testing.assert_allclose(got, [[2 / 3, 0], [-1 / 3, 0], [-1 / 3, 0]])


def test_an_episode_of_one_turn_has_its_outcome_and_the_peers_of_that_turn() -> None:
    mask = [[1, 1], [1, 0]]
    joint = run([[0.2, 0.0], [0.0, 0.0]], [0, 1], [0, 0], mask=mask, config=CreditConfig(recipe="igpo", options={"std": False})).values  # fmt: skip
    np.testing.assert_allclose(joint, [[-0.6, -0.4], [0.6, 0]])
    dual = run([[0.2, 0.5], [0.6, 0.0]], [0, 0], [0, 0], mask=mask, config=CreditConfig(recipe="matchtir", options={"lone": "zero"})).values  # fmt: skip
    assert dual[0, 1] == pytest.approx(dual[0, 0] - (dual[0, 0] - dual[0, 1]))
    assert dual[1, 0] != 0.0


def test_a_missing_turn_score_is_an_error_that_names_it_or_what_was_asked_for() -> None:
    turns = [[1.0, NAN], [0.5, 0.5], [0.0, 0.0]]
    with pytest.raises(DataError, match=r"group 'q7', row 0, turn 1: the turn score is missing \(NaN\).*missing='outcome'"):
        run(turns, [1, 0, 0], ["q7"] * 3)
    zero = run(turns, [1, 0, 0], ["q7"] * 3, missing="zero").values
    np.testing.assert_allclose(zero, run(np.nan_to_num(turns), [1, 0, 0], ["q7"] * 3).values)  # pyright: ignore[reportArgumentType]
    outcome = run(turns, [1, 0, 0], ["q7"] * 3, missing="outcome").values
    np.testing.assert_allclose(outcome[0], [1.0, 1.0])  # the outcome's advantage alone
    np.testing.assert_allclose(outcome[1], [1.0 - 0.5, 0.5 - 0.5])  # held against row 2 at the turn level
    with pytest.raises(ConfigError, match="missing = 'nul'"):
        run(turns, [1, 0, 0], ["q7"] * 3, missing="nul")
    off = run(turns, [1, 0, 0], ["q7"] * 3, in_statistics=[0, 1, 1], in_loss=[0, 1, 1]).values
    assert np.isfinite(off).all()  # nobody reads the scores of a row in neither mask


@pytest.mark.parametrize(
    ("recipe", "options"),
    [("igpo", {}), ("gigpo", {}), ("matchtir", {}), ("ppr", {}), ("cm2", {}), ("prof", {"keep": 2}), ("grpo", {"total": True})],
)
def test_recipes_that_put_both_kinds_of_score_together_refuse_to_leave_turn_scores_out(recipe: str, options: dict[str, Any]) -> None:
    config, turns = CreditConfig(recipe=recipe, options=options), [[1.0, NAN], [0.5, 0.5], [0.0, 0.0]]
    extras = {"state": np.zeros((3, 2), int)}
    with pytest.raises(ConfigError, match=f"missing = 'outcome': recipe '{recipe}'"):
        run(turns, [1, 0, 0], [0] * 3, config=config, extras=extras, missing="outcome")
    run(np.nan_to_num(turns), [1, 0, 0], [0] * 3, config=config, extras=extras, missing="outcome")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("recipe", ["trust_grpo", "cm2", "prl", "empg", "mrn", "drpo", "siop"])
def test_extras_of_a_row_in_neither_mask_are_never_read(recipe: str) -> None:
    config = CreditConfig(recipe=recipe, options={"form": "step"} if recipe == "cm2" else {})
    off: dict[str, Any] = {"in_statistics": [1, 1, 1, 0], "in_loss": [1, 1, 1, 0]}
    got = []
    for value in (0.0, 7.0, NAN, INF):
        extras = {n: np.array(x, float) for n, x in EXTRAS.items()}
        for name, x in extras.items():
            if name not in ("state", "item_weights", "channel_weights"):
                x[3] = value
        got.append(run([[1.0, 0.5], [0.2, 0.1], [0.3, 0.1], [0.0, 0.7]], [1, 0, 1, 0], [0] * 4, config=config, extras=extras, **off).values)
    for one in got[1:]:
        np.testing.assert_array_equal(one, got[0])


def test_an_advantage_that_is_no_number_is_an_error_that_names_its_row() -> None:
    extras = {"score:atomic_thought": [0.3, NAN, 0.5, 0.6]}
    with pytest.raises(DataError, match=r"row 0: recipe 'trust_grpo' gave an advantage that is no finite number.*extras"):
        run([[0.0]] * 4, [1, 0, 1, 0], ["b"] * 4, config=CreditConfig(recipe="trust_grpo"), extras=extras)


def test_numbers_that_are_not_finite_are_named() -> None:
    with pytest.raises(DataError, match="group 3, row x, turn 0: the turn score is inf"):
        run([[INF], [0.0]], [1, 0], [3, 3], ids=["x", "y"])
    with pytest.raises(DataError, match="group 3, row y: the outcome is"):
        run([[0.0], [0.0]], [1, NAN], [3, 3], ids=["x", "y"])
    with pytest.raises(DataError, match="group 'a', row 1: turn 1 exists but turn 0 does not"):
        run([[0.0, 0.0], [0.0, 0.0]], [1, 0], ["a", "a"], mask=[[1, 1], [0, 1]])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"in_loss": [True]}, r"in_loss has shape \(1,\), \(2,\) is needed"),
        ({"ids": ["one"]}, "1 ids for 2 rows"),
        ({"extras": {"state": [[0]]}}, r"extras\['state'\] has shape \(1, 1\)"),
        ({"mask": [[1, 1]]}, "do not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_named(more: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        run([[0.0], [0.0]], [1, 0], ["a", "a"], **more)
    with pytest.raises(DataError, match="1 group labels for 2 rows"):
        run([[0.0], [0.0]], [1, 0], ["a"])


def test_a_failed_service_leaves_both_masks_and_a_failed_answer_neither() -> None:
    with_failure = run([[0.5], [0.1], [9.0]], [1, 0, 5], [0] * 3, in_statistics=[1, 1, 0], in_loss=[1, 1, 0])
    np.testing.assert_allclose(with_failure.values[:2], run([[0.5], [0.1]], [1, 0], [0] * 2).values)
    assert not with_failure.values[2].any()
    flags = {"score:entity_match": [1.0, 0.5, 0.5, 1.0], "format_error": [0, 0, 0, 1], "overlong": [0, 0, 1, 0]}
    kept = run(np.zeros((4, 1)), [1, 0, 0, 0], [0] * 4, config=CreditConfig(recipe="e_grpo"), extras=flags)  # pyright: ignore[reportArgumentType]
    assert kept.values[3, 0] < 0
    assert kept.values[2, 0] < 0  # cut by a limit: kept by default
    paper = CreditConfig(recipe="e_grpo", options={"drop_overlong": True})
    dropped = run(np.zeros((4, 1)), [1, 0, 0, 0], [0] * 4, config=paper, extras=flags)  # pyright: ignore[reportArgumentType]
    assert dropped.values[2, 0] == 0
    np.testing.assert_allclose(np.delete(dropped.values, 2), np.delete(kept.values, 2))  # it stays in the statistics


def test_turns_without_tokens_lie_on_no_token() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
    mask = np.array([[1, 1, 0, 1, 1], [0, 1, 0, 0, 0]], bool)
    turn = np.array([[0, 0, -1, 2, 2], [-1, 0, -1, -1, -1]])  # turn 1 of the first row has none
    np.testing.assert_array_equal(spread(values, turn, mask), [[1, 1, 0, 3, 3], [0, 4, 0, 0, 0]])
    with pytest.raises(DataError, match="row 0, token 3: turn 3 of 3"):
        spread(values, np.where(turn == 2, 3, turn), mask)
    assert spread(np.zeros((2, 0)), turn, np.zeros_like(mask)).shape == (2, 5)


# ---- what recipes read from trajectories


def trajectory(name: str, **changes: Any) -> Trajectory:
    turns = tuple(Turn(k, "", messages=(Message.of("tool", "same"),), entropies=(0.5, 0.3)) for k in range(2))
    scores = {"entity_match": Score("trajectory", raw=0.5, value=0.0, weight=0.0)}
    return Trajectory(name, "Test-v0", "task", (), turns, scores=scores).with_(**changes)


def test_extras_are_taken_from_trajectories() -> None:
    def of(recipe: str, *members: Trajectory) -> CreditResult:
        return advantages(CreditConfig(recipe=recipe), [Group("g", "task", members)])

    solved = {"em": Score("trajectory", raw=1.0, value=1.0), **trajectory("").scores}
    pair = (trajectory("a", success=True, reward=1.0, scores=solved), trajectory("b"))
    assert of("e_grpo", *pair).values[0, 0] > 0
    assert of("gigpo", *pair).arrays.extras["state"].tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(of("empg", *pair).arrays.extras["entropy"], 0.4)
    bare = trajectory("c", turns=(Turn(0, ""),))
    with pytest.raises(DataError, match="group g, trajectory c, turn 0: no token entropies"):
        of("empg", pair[0], bare)
    with pytest.raises(ConfigError, match="the component 'citation_rubric', which no trajectory has"):
        of("c_grpo", *pair)
    late = trajectory("d", scores={"entity_match": Score("trajectory", raw=None, deferred=True, weight=0.0)})
    with pytest.raises(DataError, match="group g, trajectory d, trajectory scope: the score 'entity_match' is deferred"):
        of("e_grpo", pair[0], late)
    with pytest.raises(ConfigError, match="'mode_support', which trajectories do not hold"):
        of("siop", *pair)
    with pytest.raises(ConfigError, match="reads 'state', which was not given"):
        run([[0.0], [0.0]], [1, 0], ["a", "a"], config=CreditConfig(recipe="gigpo"))


# ---- settings


@pytest.mark.parametrize(
    ("recipe", "options", "says"),
    [
        ("e_grpo", {"alpa": 0.1}, "credit.options.alpa: e_grpo has no such option; did you mean 'alpha'"),
        ("e_grpo", {"alpha": "much"}, "credit.options.alpha: 'much' is not of the kind of its default, 0.3"),
        ("e_grpo", {"alpha": 2.0}, r"credit.options.alpha: 2.0 is not a number in \[0, 1\]"),
        ("igpo", {"form": "jont"}, "credit.options.form: unknown value 'jont'; did you mean 'joint'"),
        ("igpo", {"std": 1}, "not of the kind"),
        ("cm2", {"min_count": True}, "not of the kind"),
        ("gigpo", {"gamma": NAN}, "not of the kind"),
        ("gigpo", {"baseline": "loo", "form": "mean_std"}, "'loo' goes with"),
        ("prof", {"keep": 1}, "not an integer >= 2"),
        ("noisy_forward", {"rho0": 0.5, "rho1": 0.5}, "such a verifier says nothing"),
        ("dr_grpo", {"std": True}, "has no such option; options: total"),
    ],
)
def test_wrong_options_say_what_is_allowed(recipe: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CreditConfig(recipe=recipe, options=options)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"recipe": "noisy_backward", "options": {"std": True}}, "cancels the correction"),
        ({"scale": "group"}, "the group's own std weighs prompts"),
        ({"gamma": 0.9}, "a discount below 1"),
        ({"recipe": "e_grpo", "options": {"drop_overlong": True}}, "flips the sign"),
        ({"both_levels": True}, "counts twice"),
        ({"recipe": "igpo", "options": {"form": "separate", "curriculum": True}}, "cancel the curriculum"),
        ({"recipe": "grpo"}, "the group's own std weighs prompts"),
        ({"recipe": "igpo", "gamma": 0.9}, "credit.gamma = 0.9: recipe 'igpo' does not read it; its own is credit.options.gamma"),
        ({"recipe": "cm2", "scale": "loo"}, "credit.scale = 'loo': recipe 'cm2' does not read it"),
        ({"recipe": "grpo", "turn_weight": 1.0}, "credit.turn_weight = 1.0: recipe 'grpo' does not read it"),
    ],
)
def test_combinations_that_cancel_or_bias_are_said_once_in_one_sentence(
    given: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "_said", set())
    with caplog.at_level(logging.WARNING):
        CreditConfig(**given)
        CreditConfig(**given)
    found = [r.getMessage() for r in caplog.records if says in r.getMessage()]
    assert len(found) == 1
    assert found[0].rstrip(".").count(". ") == 0
    assert "\n" not in found[0]


VARIANTS: list[dict[str, Any]] = [
    *({"recipe": name} for name in ALL),
    {"scale": "group"}, {"gamma": 0.5}, {"recipe": "per_index", "scale": "group"}, {"recipe": "per_index", "gamma": 0.5},
    {"recipe": "igpo", "options": {"gamma": 0.9}}, {"recipe": "gigpo", "options": {"form": "mean_std", "gamma": 1.0}},
    {"recipe": "matchtir", "options": {"std": False}}, {"recipe": "a2tgpo", "options": {"gamma": 0.9}},
    {"recipe": "slate", "options": {"std": False}}, {"recipe": "noisy_backward", "options": {"std": True}},
    {"recipe": "pica", "options": {"gamma": 0.9}}, {"recipe": "siop", "options": {"gamma": 0.9}},
    {"recipe": "tips", "options": {"gamma": 0.9, "terminal": "keep"}},
]  # fmt: skip


@pytest.mark.parametrize("given", VARIANTS, ids=str)
def test_no_group_std_and_no_discount_goes_unsaid(given: dict[str, Any]) -> None:
    recipe = recipe_of(CreditConfig(**given))
    said = " ".join(recipe.cautions)
    words = [step.describe() for step in recipe.steps]
    divides = any("divide by the" in w and "std over" in w and "whole batch" not in w and "turns of the batch" not in w for w in words)
    assert divides == ("own std" in said or "cancels the correction" in said), words
    discounts = any("each turn ahead multiplied by gamma" in w for w in words)
    assert discounts == ("discount below 1" in said), words


@pytest.mark.parametrize("given", [{"turn_weight": 1.0}, {"recipe": "per_index", "gamma": 0.5}, {"recipe": "discount_schedule", "turn_weight": 1.0}])
def test_settings_that_a_recipe_reads_are_not_called_unread(
    given: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "_said", set())
    with caplog.at_level(logging.WARNING):
        CreditConfig(**given)
    assert "does not read it" not in caplog.text


def test_the_default_warns_of_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_said", set())
    for given in ({}, {"scale": "none"}, {"scale": "batch"}, {"turn_weight": 0.0, "gamma": 0.5}, {"recipe": "rloo"}):
        CreditConfig(**given)
    assert caplog.records == []


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_describes_its_steps_and_its_claim(name: str) -> None:
    recipe = recipe_of(CreditConfig(recipe=name))
    text = recipe.describe()
    assert text.count("\n") >= len(recipe.steps) + 2
    assert all(step.describe() in text for step in recipe.steps)
    claim = text.split("expectation: ")[1]
    assert ("BIASED" in claim) != ("gradient of" in claim and "BIASED" not in claim)
    doc = RECIPES.resolve(name).__doc__ or ""
    assert "Source:" in doc
    assert "Evidence:" in doc
