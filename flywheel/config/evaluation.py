"""How a generator is evaluated, who judges it, and when a difference counts: the ``evaluation`` section."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from flywheel.config.resources import EndpointConfig, PricesConfig
from flywheel.config.section import OPERATIONAL, Name, Positive, Problem, Section
from flywheel.config.training import DataConfig


class JudgeConfig(Section):
    """A scorer that never selects."""

    kind: Literal["verifier", "model", "llm"] = "verifier"
    """``verifier``: a Python function. ``model``: a sequence classification model. ``llm``: a model behind an endpoint that
    compares the output with the untouched generator's, in both orders."""
    function: str | None = None
    """verifier: ``module:function`` that takes (task, output) pairs and returns a number or None for each."""
    model: str | None = None
    """model: folder or hub id; llm: the model's name on its server."""
    trained_on: DataConfig | None = None
    """model: the preference data it was trained on, to check that it shares no row with the reward model's."""
    endpoint: EndpointConfig = EndpointConfig()
    """llm: its server."""
    temperature: float = Field(default=1.0, gt=0.0)
    """llm: sampling temperature; some servers only accept 1."""
    max_tokens: Positive = 1024
    """llm: token cap of a judgement, including reasoning."""
    args: dict[str, Any] = Field(default_factory=dict)
    """llm: further fields of each request."""
    prices: PricesConfig = Field(default=PricesConfig(), json_schema_extra=OPERATIONAL)
    """llm: prices of its tokens."""

    @property
    def is_free(self) -> bool:
        """Whether asking costs nothing but this machine's time."""
        return self.kind != "llm"

    def problems(self) -> Iterator[Problem]:
        needed = {"verifier": "function", "model": "model", "llm": "model"}[self.kind]
        if getattr(self, needed) is None:
            yield f"{needed} is required for kind = {self.kind!r}", f"Set `{needed}` of the judge."


class EvaluationConfig(Section):
    """How a generator is evaluated, and when a difference counts."""

    tasks: str
    """jsonl file of the held-out tasks, the same for every round."""
    samples: Positive = 4
    """Outputs to sample for each held-out task."""
    judge: str
    """The judge that decides: a name from ``judges``, or a verifier as ``module:function``."""
    judges: dict[Name, JudgeConfig] = Field(default_factory=dict)
    """Judges by name; all of them score, one decides, none selects."""
    margin: float = Field(default=0.02, gt=0.0)
    """*flat*: a judge difference within ± this is too small to matter."""
    rise: float = Field(default=0.05, gt=0.0)
    """*proxy-only*: the reward rose, and a rise of the judge by this much is ruled out."""
    max_diversity_drop: float = Field(default=0.2, gt=0.0, le=1.0)
    """*collapsing*: the confidence interval of the drop in output diversity (distinct-2) is above this share."""
    max_finish_rate_drop: float = Field(default=0.1, gt=0.0, le=1.0)
    """*collapsing*: the confidence interval of the drop in finish rate is above this."""
    min_tasks: int = Field(default=10, ge=2, json_schema_extra=OPERATIONAL)
    """With fewer judged held-out tasks the verdict is *inconclusive*, as bootstrap intervals of so few are too narrow."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Confidence level of intervals."""
    resamples: Positive = 10_000
    """Bootstrap resamples."""
    curve_tasks: int = Field(default=500, ge=0)
    """Proposed tasks per round of which all candidates are judged, to measure selection policies and the best-of-N curve; 0 for
    none. Judges that cost money only score held-out outputs."""
    patience: Positive = Field(default=2, json_schema_extra=OPERATIONAL)
    """`flywheel round --until flat` stops after this many rounds in a row that are not *improved*."""

    def problems(self) -> Iterator[Problem]:
        if ":" not in self.judge and self.judge not in self.judges:
            hint = "Add it to `evaluation.judges`, or set `evaluation.judge` to a Python function, as module:function."
            yield f"judge = {self.judge!r} is not one of evaluation.judges", hint

    @property
    def judges_candidates(self) -> bool:
        """Whether a judge scores candidates, not only held-out outputs: those that cost nothing do."""
        return self.curve_tasks > 0 and any(judge.is_free for judge in self.all_judges.values())

    @property
    def all_judges(self) -> dict[str, JudgeConfig]:
        """Every judge by name, the deciding one first."""
        if self.judge in self.judges:
            return {self.judge: self.judges[self.judge]} | self.judges
        name = self.judge.partition(":")[0].rpartition(".")[2]
        return {name: JudgeConfig(function=self.judge)} | self.judges
