"""The names of synthetic worlds: what a text such as "synthetic:natural?entities=500&seed=3" stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agentgym import hooks
from agentgym.errors import ConfigError, suggestion

Setting = Literal["natural", "closed"]
SETTINGS: tuple[Setting, ...] = ("natural", "closed")
MIN_ENTITIES = 100
MAX_ENTITIES = 1_000_000
CLOSED_ENTITIES = 86
"""40 people, 16 cities, 6 countries and 24 works: a closed world has no other size."""
DEFAULT_ENTITIES = {"natural": 1_000, "closed": CLOSED_ENTITIES}
MAX_SEED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """What a synthetic world is made from; equal specs give equal worlds in every process."""

    setting: Setting = "natural"
    """natural: sentences in many wordings. closed: few short sentences over a fixed vocabulary."""
    entities: int = 0
    """Number of entities; 0 stands for the setting's default (natural 1,000; closed always 86)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.setting not in SETTINGS:
            raise ConfigError(
                f"world setting {self.setting!r} is not known: use one of {', '.join(SETTINGS)}"
                + suggestion(self.setting, SETTINGS)
            )
        if self.entities == 0:
            object.__setattr__(self, "entities", DEFAULT_ENTITIES[self.setting])
        _check_bounds("seed", self.seed, 0, MAX_SEED)
        if self.setting == "natural":
            _check_bounds("entities", self.entities, MIN_ENTITIES, MAX_ENTITIES)
        elif self.entities != CLOSED_ENTITIES:
            raise ConfigError(
                f"entities={self.entities}: a closed world always has {CLOSED_ENTITIES} entities; "
                "leave the option out, or use synthetic:natural for other sizes"
            )

    @property
    def key(self) -> str:
        """The text that `parse` reads back, e.g. "synthetic:natural?entities=1000&seed=0"."""
        if self.setting == "closed":
            return f"synthetic:closed?seed={self.seed}"
        return f"synthetic:natural?entities={self.entities}&seed={self.seed}"

    @staticmethod
    def parse(text: str) -> "WorldSpec":
        """Read "synthetic", "synthetic:closed" or "synthetic:natural?entities=500&seed=3".

        Raises:
            ConfigError: unknown family, setting or option, or a value out of bounds.
        """
        setting, options = split_key(text, ("entities", "seed"))
        numbers = {name: whole_number(text, name, value) for name, value in options.items()}
        if numbers.get("entities") == 0:
            _check_bounds("entities", 0, MIN_ENTITIES, MAX_ENTITIES)
        return WorldSpec(setting, numbers.get("entities", 0), numbers.get("seed", 0))


def split_key(text: str, allowed: Sequence[str]) -> tuple[Setting, dict[str, str]]:
    """Split "synthetic:SETTING?name=value&…" into its setting and its options.

    Raises:
        ConfigError: for another family, an unknown setting, or an option that is not in `allowed`.
    """
    head, _, query = text.partition("?")
    family, _, setting = head.partition(":")
    if family != "synthetic":
        elsewhere = f"; {family!r} is a world of another environment, of tools" if family in hooks.WORLDS else suggestion(family, ("synthetic", *SETTINGS))
        raise ConfigError(
            f"world {text!r}: {family!r} is not known here; allowed: synthetic, synthetic:natural and synthetic:closed, with"
            f" options, e.g. synthetic:natural?entities=1000&seed=0{elsewhere}"
        )
    setting = setting or "natural"
    if setting not in SETTINGS:
        raise ConfigError(
            f"world {text!r}: setting {setting!r} is not known: use one of {', '.join(SETTINGS)}"
            + suggestion(setting, SETTINGS)
        )
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if name not in allowed or not equals or name in options:
            problem = "is given twice" if name in options else "is not known" if name not in allowed else "has no value"
            raise ConfigError(
                f"world {text!r}: option {name!r} {problem}; allowed: {', '.join(f'{a}=…' for a in allowed)}"
                + suggestion(name, allowed)
            )
        options[name] = value
    return setting, options


def whole_number(text: str, name: str, value: str) -> int:
    """Return an option's value as an int. Raises ConfigError where it is none."""
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise ConfigError(f"world {text!r}: {name}={value!r} is not a whole number, e.g. {name}=100")
    return int(value)


def _check_bounds(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} is out of bounds: a world takes {low} to {high}")
