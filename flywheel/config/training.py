"""How the generator is fine-tuned on the winners: the ``training`` section."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from flywheel.config.reward import LoraConfig
from flywheel.config.section import OPERATIONAL, Invalid, Positive, Section, Share


class TrainingConfig(Section):
    """How the generator is fine-tuned on the winners."""

    student: str | None = None
    """Folder or hub id of a local model to train instead of the generator; a generator behind an endpoint needs one."""
    start: Literal["previous", "base"] = "previous"
    """Continue from the previous round's generator, or start from the base model."""
    data: Literal["replace", "accumulate"] = "replace"
    """Train on this round's winners, or on those of all rounds so far."""
    proposal_share: Share = 0.2
    """Share of proposals among the training texts, so that the generator stays able to propose."""
    paraphrases: bool = False
    """Train on the winners' paraphrases too, each with the winner's output."""
    checkpoint_minutes: float = Field(default=10.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Minutes between checkpoints; a killed training resumes from the last one."""
    epochs: float = Field(default=1.0, gt=0.0)
    """Passes over the training texts."""
    learning_rate: float = Field(default=1e-5, gt=0.0)
    """Peak learning rate."""
    batch_size: Positive = 8
    """Texts per optimizer step, over all processes."""
    max_length: Positive = 1024
    """Tokens of a training text; longer texts are dropped and counted."""
    batching: Literal["plain", "grouped", "packed"] = "plain"
    """``plain``: random batches, padded to their longest text. ``grouped``: batches of similar length. ``packed``: several
    texts in a row that do not attend to each other; ``batch_size`` then holds on average."""
    lora: LoraConfig | None = None
    """Train low-rank adapters and merge them into the generator; null trains all weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number type of the computation; trained weights stay float32, so that small steps are not lost, and are saved as such."""
    gradient_checkpointing: bool = Field(default=False, json_schema_extra=OPERATIONAL)
    """Recompute activations instead of storing them: less memory, more time, the same weights."""
    accumulate: Positive = 1
    """Parts that a step's texts are split into, one after the other: less memory, the same step."""
    processes: Positive = 1
    """Processes, one per GPU, that share a step's texts. Part of the fingerprint: the steps are equal up to rounding, but the
    last one of an epoch is filled up with texts of the first, so that every process has some."""
    accelerate_config: str | None = None
    """Config file of ``accelerate launch``; it sets the number of processes if ``processes`` is 1."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of trl's ``SFTConfig``."""

    @model_validator(mode="after")
    def _check_batch_size(self) -> Self:
        shares = self.processes * self.accumulate
        if self.batch_size % shares:
            raise Invalid(
                (
                    f"batch_size = {self.batch_size} must be a multiple of processes x accumulate ({shares})",
                    f"Set it to {-(-self.batch_size // shares) * shares}, for example.",
                )
            )
        return self
