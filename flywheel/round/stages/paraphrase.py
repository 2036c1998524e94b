"""Paraphrase: other ways to say what the winners were asked."""

from __future__ import annotations

from flywheel.core.spool import Spooled
from flywheel.instructions.paraphrase import paraphrase as paraphrase_winners
from flywheel.instructions.tasks import read_reworded
from flywheel.records import Origin, Stage
from flywheel.reward.text import Answer
from flywheel.round.context import RoundContext
from flywheel.round.stage import open_stage


def paraphrase(context: RoundContext) -> None:
    """Paraphrase the winners' instructions; the reward model drops paraphrases that ask for something else."""
    config = context.config.instructions.paraphrases
    with open_stage(context, Stage.PARAPHRASE, total=None, unit="paraphrases") as stage:
        if stage is None:
            return
        kept = context.store.proposed_so_far(context.name, Origin.PARAPHRASED).kept
        for chunk in paraphrase_winners(
            context.generate,
            context.prompts,
            config,
            Spooled(context.store.winners([context.name]), context.workspace.models),
            demos=read_reworded(context.config.path(config.demos)),
            filters=context.filters,
            reward=lambda rows: context.scorer.score_answers([Answer(task=task, output=output) for task, output in rows]),
            names=(context.config.seed, context.name, "paraphrase"),
            chunk=context.config.engine.chunk,
            done=stage.done,
        ):
            stage.commit(chunk)
            kept += sum(row.reason is None for row in chunk.rows)
            stage.progress.to(kept)
