"""Tasks of the benchmark: a raw file, the words of its prompts, its choices and its published figures."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from schemas.documents import Strict, explain, text_content
from zigong.errors import ConfigError

TASKS = ("german", "australia", "credit_card_fraud", "ccfraud", "travel_insurance")


def _one_line(text: str) -> str:
    if not text or text != " ".join(text.split()):
        raise ValueError("expected one line without surrounding or repeated white space")
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class Column(Strict):
    """One column of the raw file.

    Attributes:
        column: name in the file's header; in a file without header, a name for errors.
        kind: ``unused`` columns are read but neither checked nor shown.
        name: words of the prompt, by default the column's name.
        codes: words of each code, for ``code``.
        at_most: larger numbers are replaced by this one.
        mean_below: after that, smaller numbers are replaced by the mean of the column in the whole file.
    """

    column: Line
    kind: Literal["number", "code", "word", "label", "unused"]
    name: Line | None = None
    codes: dict[str, Line] = Field(default_factory=dict)
    at_most: float | None = None
    mean_below: float | None = None

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        if (self.kind == "code") != bool(self.codes):
            raise ValueError("codes belong to columns of kind code, and only to them")
        if self.kind != "number" and (self.at_most, self.mean_below) != (None, None):
            raise ValueError("at_most and mean_below belong to columns of kind number")
        return self

    @property
    def shown(self) -> str:
        """The words of the prompt."""
        return self.name or self.column


class Example(Strict):
    """The invented record of the prompt: the values of the features, in the order of the columns, and its answer."""

    values: list[str]
    answer: str


class Published(Strict):
    """The figures that the paper's Table 2 gives for ZiGong."""

    accuracy: float
    f1: float
    miss: float


class Task(Strict):
    """One task of the benchmark.

    Attributes:
        name: name of the task in commands and figures, and of its file.
        title: name of the data set in tables.
        file: name of the raw file in the folder of the data.
        separator: character between the cells of the raw file.
        header: whether its first line names the columns.
        first_rows: only these first rows of the raw file belong to the benchmark; None: all.
        columns: every column of the raw file, in order.
        answers: choice of each value of the label column.
        choices: in the order in which a generated text is searched for them.
        bad: choice that stands for a high risk; the probabilities and AUC are of this one.
        instruction: first line of every prompt.
        example: the example of the prompt.
        subsample: share of the rows that is drawn, stratified by label, before the split; None: all.
        balance: whether training repeats rows of the rarer label until there is one for every two of the other.
        published: figures of the paper.
    """

    name: Literal["german", "australia", "credit_card_fraud", "ccfraud", "travel_insurance"]
    title: Line
    file: str
    separator: Literal["space", "comma"]
    header: bool
    first_rows: Annotated[int, Field(gt=0)] | None = None
    columns: list[Column]
    answers: dict[str, str]
    choices: list[str]
    bad: str
    instruction: Line
    example: Example
    subsample: Annotated[float, Field(gt=0, lt=1)] | None = None
    balance: bool = False
    published: Published

    @model_validator(mode="after")
    def _columns_choices_and_example_agree(self) -> Self:
        if [column.kind for column in self.columns].count("label") != 1:
            raise ValueError("expected one column of kind label")
        if len(set(self.choices)) != 2 or set(self.answers.values()) != set(self.choices):
            raise ValueError("expected two choices, each the answer of a value of the label column")
        if not {self.bad, self.example.answer} <= set(self.choices):
            raise ValueError("bad and example.answer must be among the choices")
        if len(self.example.values) != len(self.features):
            raise ValueError(f"example.values has {len(self.example.values)} items for {len(self.features)} features")
        return self

    @property
    def features(self) -> list[Column]:
        """The columns of the prompt."""
        return [column for column in self.columns if column.kind not in {"label", "unused"}]

    @property
    def label(self) -> Column:
        """The column of the label."""
        return next(column for column in self.columns if column.kind == "label")

    @property
    def bad_first(self) -> tuple[str, str]:
        """The choices, the bad one first."""
        return self.bad, next(choice for choice in self.choices if choice != self.bad)


@cache
def load_task(name: str) -> Task:
    """The task with this name.

    Raises:
        ConfigError: there is no such task, or its file is not valid.
    """
    if name not in TASKS:
        raise ConfigError(f"expected a task among {', '.join(TASKS)}; found {name!r}", action="correct --tasks")
    file = f"zigong/calm/tasks/{name}.yaml"
    text = files("zigong.calm").joinpath("tasks", f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return Task.model_validate(text_content(text, origin=file))
    except ValidationError as error:
        raise ConfigError(explain(error, Task, origin=file), action=f"edit {file}") from error
    except ValueError as error:
        raise ConfigError(str(error), action=f"edit {file}") from error
