"""Plain arrays of another trainer as `CreditArrays`: shapes and scores are checked, messages name group and turn."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agentgym.credit.arrays import Bools, CreditArrays, Floats, Ints
from agentgym.errors import ConfigError, DataError

Missing = Literal["error", "zero", "outcome"]


def arrays_of(
    turn_scores: ArrayLike,
    turn_mask: ArrayLike,
    outcome: ArrayLike,
    group: Sequence[Hashable] | NDArray[Any],
    in_statistics: ArrayLike | None = None,
    in_loss: ArrayLike | None = None,
    extras: Mapping[str, ArrayLike] | None = None,
    ids: Sequence[str] = (),
    missing: Missing = "error",
) -> CreditArrays:
    """Return checked arrays; see `agentgym.credit.advantages_from_arrays` for arguments and errors."""
    if missing not in ("error", "zero", "outcome"):
        raise ConfigError(f"missing = {missing!r}: allowed are 'error', 'zero' and 'outcome'")
    outcomes = np.asarray(outcome, np.float64)
    n = len(outcomes) if outcomes.ndim == 1 else -1
    scores, mask = np.asarray(turn_scores, np.float64), np.asarray(turn_mask).astype(bool)
    if n == 0 and scores.size == 0 and scores.ndim != 2:
        scores, mask = scores.reshape(0, 0), mask.reshape(0, 0)
    if n < 0 or scores.ndim != 2 or scores.shape != mask.shape or len(scores) != n:
        raise DataError(
            f"credit: turn_scores {scores.shape}, turn_mask {mask.shape} and outcome {outcomes.shape} do not fit: [B, K], "
            "[B, K] and [B] are needed."
        )
    labels, numbers = _numbered(group, n)
    names = tuple(str(i) for i in (ids if len(ids) else range(n)))
    if len(names) != n:
        raise DataError(f"credit: {len(names)} ids for {n} rows")
    statistics, loss = _mask("in_statistics", in_statistics, n), _mask("in_loss", in_loss, n)
    read = statistics | loss
    _no_gaps(mask, labels, numbers, names)
    wrong = ~np.isfinite(outcomes) & read
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise DataError(f"group {labels[numbers[i]]!r}, row {names[i]}: the outcome is {outcomes[i]!r}. {_HINT}")
    place = mask & read[:, None]
    infinite = np.isinf(scores) & place
    absent = np.isnan(scores) & place
    bad = infinite | absent if missing == "error" else infinite
    if bad.any():
        i, k = (int(x) for x in np.argwhere(bad)[0])
        more = f" ({int(bad.sum())} such scores)" if bad.sum() > 1 else ""
        what = "missing (NaN)" if np.isnan(scores[i, k]) else repr(float(scores[i, k]))
        where = f"group {labels[numbers[i]]!r}, row {names[i]}, turn {k}"
        choice = " Or pass missing='zero' or missing='outcome'." if np.isnan(scores[i, k]) else ""
        raise DataError(f"{where}: the turn score is {what}{more}. {_HINT}{choice}")
    whole = np.logical_not(absent.any(1)) if missing == "outcome" and absent.any() else None
    return CreditArrays(
        turn_scores=np.where(place & ~absent, scores, 0.0),
        turn_mask=mask,
        outcome=np.where(read, outcomes, 0.0),
        group=numbers,
        in_statistics=statistics,
        in_loss=loss,
        ids=names,
        in_turn_level=whole,
        extras=_extras(extras or {}, read),
    )


_HINT = "A row without a valid score leaves both masks (in_statistics, in_loss); it is never counted as 0."


def _numbered(group: Sequence[Hashable] | NDArray[Any], n: int) -> tuple[list[Any], Ints]:
    """Return the labels in the order of first sight, and each row's number."""
    given = group.tolist() if hasattr(group, "tolist") else list(group)  # pyright: ignore[reportAttributeAccessIssue]
    if len(given) != n:
        raise DataError(f"credit: {len(given)} group labels for {n} rows")
    first: dict[Hashable, int] = {}
    numbers = [first.setdefault(label, len(first)) for label in given]
    return list(first), np.array(numbers, np.int64)


def _mask(name: str, given: ArrayLike | None, n: int) -> Bools:
    mask = np.ones(n, bool) if given is None else np.asarray(given).astype(bool)
    if mask.shape != (n,):
        raise DataError(f"credit: {name} has shape {mask.shape}, ({n},) is needed")
    return mask


def _no_gaps(mask: Bools, labels: list[Any], numbers: Ints, names: tuple[str, ...]) -> None:
    gap = mask[:, 1:] & ~mask[:, :-1]
    if gap.any():
        i, k = (int(x) for x in np.argwhere(gap)[0])
        raise DataError(
            f"group {labels[numbers[i]]!r}, row {names[i]}: turn {k + 1} exists but turn {k} does not. A row's turns come "
            "first and without gaps; a turn that did nothing is a turn with score 0."
        )


def _extras(extras: Mapping[str, ArrayLike], read: Bools) -> dict[str, NDArray[Any]]:
    """Return the extras as arrays, with 0 in the rows that nobody reads: they may hold anything, NaN included."""
    out: dict[str, NDArray[Any]] = {}
    n = len(read)
    for name, given in extras.items():
        values: Floats = np.asarray(given)
        per_row = name not in ("channel_weights", "item_weights")
        if per_row and (values.ndim == 0 or len(values) != n):
            raise DataError(f"credit: extras[{name!r}] has shape {values.shape}; its first axis must be the {n} rows")
        if per_row and np.issubdtype(values.dtype, np.floating):
            values = np.where(read.reshape(-1, *[1] * (values.ndim - 1)), values, 0.0)
        out[name] = values
    return out
