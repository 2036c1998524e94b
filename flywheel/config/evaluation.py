"""How a generator is measured, who judges it, and when a difference counts: the ``evaluation`` section."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from flywheel.config.budget import PricesConfig
from flywheel.config.engine import EndpointConfig
from flywheel.config.reward import DataConfig
from flywheel.config.section import OPERATIONAL, Name, Positive, Section


class JudgeConfig(Section):
    """A judge: it scores outputs and never selects."""

    kind: Literal["verifier", "model", "llm"] = "verifier"
    """``verifier``: a Python function. ``model``: a sequence classification model. ``llm``: a model behind an endpoint, which
    compares the output with the untouched generator's, in both orders."""
    function: str | None = None
    """verifier: ``module:function``; takes (task, output) pairs, returns a number or None for each."""
    model: str | None = None
    """model: folder or hub id. llm: the name that its server knows."""
    trained_on: DataConfig | None = None
    """model: the preferences it was trained on, to check that no member of the reward model was trained on one of them."""
    endpoint: EndpointConfig = EndpointConfig()
    """llm: where it is."""
    temperature: float = Field(default=1.0, gt=0.0)
    """llm: of a judgement; some servers take no other than 1."""
    max_tokens: Positive = 1024
    """llm: of a judgement, thoughts included."""
    args: dict[str, Any] = Field(default_factory=dict)
    """llm: further fields of each request."""
    prices: PricesConfig = Field(default=PricesConfig(), json_schema_extra=OPERATIONAL)
    """llm: what its tokens cost."""

    @property
    def is_free(self) -> bool:
        """Whether asking costs no more than this machine's time."""
        return self.kind != "llm"

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        wanted = {"verifier": "function", "model": "model", "llm": "model"}[self.kind]
        if getattr(self, wanted) is None:
            raise ValueError(f"a judge of kind {self.kind} needs a {wanted}")
        return self


class EvaluationConfig(Section):
    """How a generator is measured, and when a difference counts."""

    tasks: str
    """The held-out tasks: a jsonl file, the same for every round."""
    samples: Positive = 4
    judge: str
    """The judge that decides: the name of one of ``judges``, or a ``module:function`` as in `JudgeConfig`."""
    judges: dict[Name, JudgeConfig] = Field(default_factory=dict)
    """Judges by name. All are asked; only one decides, and it is named before any round runs. None of them selects."""
    margin: float = Field(default=0.02, gt=0.0)
    """Differences of the judge within ± this are *flat*: too small to matter."""
    rise: float = Field(default=0.05, gt=0.0)
    """*proxy-only* where the reward rose and a rise of the judge by this much is ruled out."""
    max_diversity_fall: float = Field(default=0.2, gt=0.0, le=1.0)
    """*collapsing* where output diversity falls, by its whole interval, by more than this share of what it was."""
    max_finish_rate_fall: float = Field(default=0.1, gt=0.0, le=1.0)
    """*collapsing* where the finish rate falls, by its whole interval, by more than this."""
    min_tasks: int = Field(default=10, ge=2, json_schema_extra=OPERATIONAL)
    """With fewer held-out tasks that have a judge's score the verdict is *inconclusive*: resampling so few does not show how
    much others would differ."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    resamples: Positive = 10_000
    curve_tasks: int = Field(default=500, ge=0)
    """Proposed tasks of a round whose candidates the judge scores, for the selection policies and the best-of-N curve; 0 for
    none. A judge that costs money only scores held-out outputs."""
    patience: Positive = Field(default=2, json_schema_extra=OPERATIONAL)
    """`flywheel round --until flat` stops after this many rounds in a row that are not *improved*: one may be bad luck."""

    @model_validator(mode="after")
    def _one_judge_decides(self) -> Self:
        if ":" not in self.judge and self.judge not in self.judges:
            known = f"one of {', '.join(self.judges)}" if self.judges else "the name of a judge in evaluation.judges"
            raise ValueError(f"evaluation.judge ({self.judge}) must be {known}, or a module:function")
        return self

    @property
    def judges_candidates(self) -> bool:
        """Whether a judge is asked about candidates, not of held-out outputs only: those that cost nothing are."""
        return self.curve_tasks > 0 and any(one.is_free for one in self.all_judges.values())

    @property
    def all_judges(self) -> dict[str, JudgeConfig]:
        """Every judge by name, the deciding one first."""
        if self.judge in self.judges:
            return {self.judge: self.judges[self.judge]} | self.judges
        named = self.judge.partition(":")[0].rpartition(".")[2]
        return {named: JudgeConfig(function=self.judge)} | self.judges
