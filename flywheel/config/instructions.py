"""What a configuration may say of new tasks: how they are proposed, dropped and said in another way."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.config.section import OPERATIONAL, Positive, Section, Share


class FiltersConfig(Section):
    """Why a proposed task is dropped, besides missing fields, exact duplicates and copies of demos; null switches one off."""

    near_duplicate: float | None = Field(default=0.7, gt=0.0, lt=1.0)
    """ROUGE-L to a seed or to a task kept in this round or an earlier one, above which a task is dropped (Self-Instruct's)."""
    compare: Literal["instruction", "task"] = "instruction"
    """What similarity is measured on: the instruction, or, where one instruction serves many inputs, both together."""
    held_out_words: int | None = Field(default=13, ge=4)
    """This many words in a row of a held-out or protected task are an overlap (GPT-3's 13, arXiv 2005.14165, appendix C)."""
    held_out_similarity: float | None = Field(default=0.7, gt=0.0, lt=1.0)
    """ROUGE-L of instruction and input to a held-out or protected task above which they overlap."""
    protected: tuple[str, ...] = ()
    """Further files of tasks that must not leak into training: benchmarks the generator will be measured on."""
    max_words: int | None = Field(default=None, ge=1)
    """Words of the three fields together."""
    refusals: bool = True
    """Drop texts in which the model declines to write a task."""
    language: str | None = None
    """Keep instructions in this language only: an ISO 639 code such as ``en``."""
    custom: tuple[str, ...] = ()
    """Functions of your own, ``module:function``: take a Task, return None to keep it or the reason to drop it."""


class ParaphrasesConfig(Section):
    """Other ways to say the instructions of winners (Unnatural Instructions, section 2.3)."""

    per_winner: int = Field(default=0, ge=0, le=256)
    """Alternatives to write for each winner; 0 writes none."""
    demos: str = "asset:data/paraphrases.jsonl"
    """Pairs of ``instruction`` and ``alternative``, of which two are shown."""
    temperature: float = Field(default=1.0, gt=0.0, le=100.0)
    top_p: float = Field(default=0.99, gt=0.0, le=1.0)
    max_tokens: Positive = 128
    max_reward_fall: float | None = Field(default=0.5, ge=0.0)
    """Drop an alternative under which the winning output's reward is lower by more than this: it asks for something else."""


class InstructionsConfig(Section):
    """How new tasks are proposed."""

    seeds: str = "asset:data/seeds.jsonl"
    tasks: int = Field(default=500, ge=1, le=1_000_000_000)
    """Tasks to keep in a round."""
    meta_prompt: Literal["enumerated", "minimal", "verbose"] = "enumerated"
    """How the demos are presented: numbered examples, nothing but the fields, or a full explanation first."""
    demos: Literal["sets", "pool", "evolving"] = "sets"
    """Three demos of one seed set; any three seeds; or seeds and past winners, which are chosen to be unlike each other."""
    evolving_share: Share = 1 / 3
    """Share of past winners among evolving demos."""
    best_of: int = Field(default=1, ge=1, le=256)
    """Tasks to write for each that is kept, from the same demos."""
    best_by: Literal["novelty", "reward"] = "novelty"
    """Which of them is kept: the least similar to all before it, or the one whose text the reward model likes best."""
    temperature: float = Field(default=1.0, gt=0.0, le=100.0)
    top_p: float = Field(default=0.99, gt=0.0, le=1.0)
    max_tokens: Positive = 256
    max_attempts: int = Field(default=20, ge=1, json_schema_extra=OPERATIONAL)
    """Proposing stops after this many attempts for each task asked for (times ``best_of``)."""
    max_total_tokens: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """Proposing stops after this many tokens a round."""
    filters: FiltersConfig = FiltersConfig()
    paraphrases: ParaphrasesConfig = ParaphrasesConfig()
