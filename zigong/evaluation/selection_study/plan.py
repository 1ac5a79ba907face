"""The trainings of the study: which rule, share, wrong labels, budget, seed and draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

from zigong.errors import ConfigError
from zigong.evaluation.selection_study.rules import RULES
from zigong.files.digests import json_digest

BUDGETS = ("epochs", "steps")
SMALL = 0.2  # shares below it are repeated more often


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of the final model.

    Attributes:
        rule: name of the rule that chooses the samples.
        share: size of the choice as a share of the pool.
        flipped: share of the pool's labels that are flipped before everything else.
        budget: ``epochs``: as many passes as the recipe states; ``steps``: as many steps as these take on the pool.
        seed: seed of flips, agent and training.
        draw: number of the draw, which changes the random numbers of rule and training.
    """

    rule: str
    share: float
    flipped: float
    budget: str
    seed: int
    draw: int

    @property
    def key(self) -> str:
        """Digest of the trial, as 16 hex digits."""
        return json_digest(asdict(self))[:16]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The extent of the study.

    Attributes:
        rules: names of rules; ``random``, to which they are compared, is always there.
        shares: sizes of the choice as shares of the pool, above 0 and at most 1.
        flipped: shares of flipped labels, at least 0 and below one half.
        budgets: kinds of budget.
        seeds: number of seeds of a share of at least ``SMALL``.
        small_seeds: number of seeds of a smaller share.
        small_draws: number of draws of each of these.

    Raises:
        ConfigError: a rule is unknown, or a number is out of its range.
    """

    rules: tuple[str, ...]
    shares: tuple[float, ...]
    flipped: tuple[float, ...]
    budgets: tuple[str, ...] = BUDGETS
    seeds: int = 3
    small_seeds: int = 5
    small_draws: int = 3

    def __post_init__(self) -> None:
        unknown = [*sorted(set(self.rules) - set(RULES)), *sorted(set(self.budgets) - set(BUDGETS))]
        if unknown:
            raise ConfigError(
                f"expected rules among {', '.join(RULES)} and budgets among {', '.join(BUDGETS)}, found {unknown[0]}",
                action="correct --rules or --budgets",
            )
        wrong = [value for value in self.shares if not 0 < value <= 1]
        wrong += [value for value in self.flipped if not 0 <= value < 0.5]
        if wrong or min(self.seeds, self.small_seeds, self.small_draws) < 1:
            raise ConfigError(
                f"expected shares above 0 and at most 1, flipped shares from 0 to below 0.5, and at least one seed and "
                f"draw, found {wrong or 'no seed or draw'}",
                action="correct --shares, --flipped, --seeds or --draws",
            )
        if next(self.trials(0), None) is None:
            raise ConfigError(
                "the plan has no training: with share 1 every budget is that of epochs",
                action="add epochs to --budgets, or a share below 1",
            )

    def trials(self, first_seed: int) -> Iterator[Trial]:
        """All trainings, those of one agent after each other; seeds count from ``first_seed``."""
        most = max(self.seeds, self.small_seeds)
        for flipped, number in product(self.flipped, range(most)):
            for share, rule, budget in product(self.shares, dict.fromkeys(("random", *self.rules)), self.budgets):
                seeds, draws = (self.small_seeds, self.small_draws) if share < SMALL else (self.seeds, 1)
                if number < seeds and not (share == 1 and _repeats(rule, budget)):
                    for draw in range(draws):
                        yield Trial(
                            rule=rule, share=share, flipped=flipped, budget=budget, seed=first_seed + number, draw=draw
                        )


def _repeats(rule: str, budget: str) -> bool:
    """Whether a training on the complete pool is that of ``random`` with ``epochs`` again."""
    return budget == "steps" or rule not in {"random", "weights"}


def plan_of(
    rules: str, shares: str, flipped: str, budgets: str, *, seeds: int, small_seeds: int, small_draws: int
) -> Plan:
    """The plan of lists whose items are separated by commas; ``all`` stands for every rule.

    Raises:
        ConfigError: see :class:`Plan`, or a share is no number.
    """
    try:
        sizes = [tuple(float(item) for item in _items(text)) for text in (shares, flipped)]
    except ValueError as error:
        raise ConfigError(str(error), action="give --shares and --flipped numbers, such as 0.1,0.5") from error
    return Plan(
        rules=tuple(RULES) if rules == "all" else _items(rules),
        shares=sizes[0],
        flipped=sizes[1],
        budgets=_items(budgets),
        seeds=seeds,
        small_seeds=small_seeds,
        small_draws=small_draws,
    )


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
