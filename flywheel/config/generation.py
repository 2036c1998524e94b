"""How tasks and candidates are generated: the ``instructions`` and ``sampling`` sections."""

from typing import Literal

from pydantic import Field

from flywheel.config.section import OPERATIONAL, Positive, Section, Share, Temperature, TopP


class FiltersConfig(Section):
    """Filters of proposed tasks; null disables a filter.

    Tasks with a missing field, exact duplicates and copies of a demo are always dropped.
    """

    near_duplicate: float | None = Field(default=0.7, gt=0.0, lt=1.0)
    """Drop a task whose ROUGE-L to a seed or an earlier kept task is above this (Self-Instruct)."""
    compare: Literal["instruction", "task"] = "instruction"
    """Measure similarity on the instruction alone, or on instruction and input where many inputs share an instruction."""
    held_out_words: int | None = Field(default=13, ge=4)
    """Decontamination: drop a task with this many words in a row in common with a held-out task (GPT-3's 13, arXiv 2005.14165,
    appendix C)."""
    held_out_similarity: float | None = Field(default=0.7, gt=0.0, lt=1.0)
    """Decontamination: drop a task whose ROUGE-L to a held-out task, on instruction and input, is above this."""
    decontaminate: tuple[str, ...] = ()
    """Decontamination: further files of tasks that must not leak into training, such as benchmarks."""
    max_words: int | None = Field(default=None, ge=1)
    """Drop a task with more words than this in its three fields together."""
    refusals: bool = True
    """Drop texts in which the model refuses to propose a task."""
    language: str | None = None
    """Keep only instructions in this language, an ISO 639 code such as ``en``."""
    custom: tuple[str, ...] = ()
    """Your own filters as ``module:function``; each takes a Task and returns None to keep it, or the reason to drop it."""


class ParaphrasesConfig(Section):
    """Paraphrases of the winners' instructions (Unnatural Instructions, section 2.3)."""

    per_winner: int = Field(default=0, ge=0, le=256)
    """Paraphrases to generate for each winner; 0 for none."""
    demos: str = "asset:data/paraphrases.jsonl"
    """jsonl file of ``instruction`` and ``alternative`` pairs, of which a prompt shows two."""
    temperature: Temperature = 1.0
    top_p: TopP = 0.99
    max_tokens: Positive = 128
    """Maximum tokens of a paraphrase."""
    max_reward_fall: float | None = Field(default=0.5, ge=0.0)
    """Drop a paraphrase that lowers the winning output's reward by more than this, as it asks for something else."""


class InstructionsConfig(Section):
    """How new tasks are proposed."""

    seeds: str = "asset:data/seeds.jsonl"
    """jsonl file of the seed tasks."""
    tasks: int = Field(default=500, ge=1, le=1_000_000_000)
    """Tasks to keep per round."""
    meta_prompt: Literal["enumerated", "minimal", "verbose"] = "enumerated"
    """How a prompt presents the demos: as numbered examples, as bare fields, or after a full explanation."""
    demos: Literal["sets", "pool", "evolving"] = "sets"
    """Which demos a prompt shows: three of one seed set, any three seeds, or dissimilar seeds and past winners."""
    evolving_share: Share = 1 / 3
    """Share of past winners among the demos if ``demos`` is evolving."""
    best_of: int = Field(default=1, ge=1, le=256)
    """Proposals to sample from the same demos for each kept task."""
    best_by: Literal["novelty", "reward"] = "novelty"
    """Which proposal is kept: the least similar to earlier tasks, or the one with the highest reward."""
    temperature: Temperature = 1.0
    top_p: TopP = 0.99
    max_tokens: Positive = 256
    """Maximum tokens of a proposal."""
    max_attempts: int = Field(default=20, ge=1, json_schema_extra=OPERATIONAL)
    """Stop proposing after this many attempts per task (times ``best_of``)."""
    max_total_tokens: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """Stop proposing after this many tokens per round."""
    filters: FiltersConfig = FiltersConfig()
    paraphrases: ParaphrasesConfig = ParaphrasesConfig()


class SamplingConfig(Section):
    """How candidates are sampled for a task."""

    n: int = Field(default=4, ge=1, le=4096)
    """Candidates per task."""
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    max_tokens: Positive = 256
    """Maximum tokens of a candidate."""
