"""How the generator is fine-tuned on the winners: the ``training`` section."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from flywheel.config.reward import LoraConfig
from flywheel.config.section import OPERATIONAL, Positive, Section, Share


class TrainingConfig(Section):
    """How the generator is fine-tuned on the winners."""

    student: str | None = None
    """Folder or hub id of a local model that is trained in place of the generator: one behind an endpoint is not trained."""
    start: Literal["previous", "base"] = "previous"
    """Train the previous round's generator on, or the base anew."""
    data: Literal["replace", "accumulate"] = "replace"
    """Train on this round's winners, or on those of all rounds so far."""
    proposal_share: Share = 0.2
    """Share of proposal-shaped texts among the training texts, so that the generator still can propose."""
    paraphrases: bool = False
    """Train on the winners' paraphrases too, with the output of the winner."""
    checkpoint_minutes: float = Field(default=10.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """A killed training goes on from its last checkpoint."""
    epochs: float = Field(default=1.0, gt=0.0)
    learning_rate: float = Field(default=1e-5, gt=0.0)
    batch_size: Positive = 8
    """Texts that one step of the optimizer learns from, over all processes."""
    max_length: Positive = 1024
    """Longer texts are dropped, and counted."""
    batching: Literal["plain", "grouped", "packed"] = "plain"
    """``plain``: texts by chance, padded to the longest of a batch. ``grouped``: texts of like length in a batch. ``packed``:
    several texts in a row, none of which reads another; ``batch_size`` is then met on average."""
    lora: LoraConfig | None = None
    """None trains all weights; adapters are merged into the generator when it is trained."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in. The weights that are trained stay float32, so that small steps are not lost, and are saved so."""
    gradient_checkpointing: bool = Field(default=False, json_schema_extra=OPERATIONAL)
    """Compute activations twice instead of keeping them: less memory, more time, the same weights."""
    accumulate: Positive = 1
    """A step's texts go through the model in so many parts: less memory, the same step."""
    processes: Positive = 1
    """Train in so many processes, one for each GPU, which share a step's texts. Part of the identity: the same steps, but
    not to the last digit, and an epoch's last one is filled up with texts of its first, so that every process has some."""
    accelerate_config: str | None = None
    """A config file of ``accelerate launch``, for what ``processes`` does not say; where that is 1, the file's number holds."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Any further argument of trl's SFTConfig."""

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> Self:
        shares = self.processes * self.accumulate
        if self.batch_size % shares:
            raise ValueError(
                f"training.batch_size ({self.batch_size}) is shared by processes x accumulate ({shares}); "
                f"set it to a multiple, such as {-(-self.batch_size // shares) * shares}"
            )
        return self
