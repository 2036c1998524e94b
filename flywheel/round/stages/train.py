"""Train: the next generator, or the student in its place, fine-tuned on the winners."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.core.files import digest_model, publish
from flywheel.core.seeds import derive
from flywheel.core.spool import Spooled
from flywheel.engines.generator import training_start
from flywheel.instructions.prompts import load_prompts
from flywheel.records import Chunk, Model, ModelKind, Stage
from flywheel.round.context import RoundContext
from flywheel.round.stage import open_stage
from flywheel.training import Example, Job, train_generator, training_examples


def train(context: RoundContext) -> None:
    """Train, and record the model with its folder in one step."""
    with open_stage(context, Stage.TRAIN, total=None, unit="steps") as stage:
        if stage is None:
            return
        config, workspace = context.config, context.workspace
        start = training_start(context.round, config, workspace)
        context.close()
        folder = workspace.models / f"generator-{context.name}"
        with publish(folder) as unfinished:
            job = Job(
                start=str(workspace.locate(start)), folder=unfinished, examples=_examples(context, start),
                config=config.training, seed=derive(config.seed, context.round.tasks_of, "train"),
                accelerate_config=config.path(accelerate) if (accelerate := config.training.accelerate_config) else None,
                checkpoints=workspace.models / f"generator-{context.name}-{context.round.fingerprint[:12]}.training",
                trust_remote_code=config.engine.trust_remote_code,
            )  # fmt: skip
            facts = train_generator(job, stage.progress.to)
        model = Model(
            kind=ModelKind.GENERATOR, name=context.name, path=workspace.inside(folder), digest=digest_model(folder),
            parent=start.model_id, recipe=config.training.model_dump(), facts=facts,
        )  # fmt: skip
        stage.commit(Chunk(rows=[model], last=True))


def _examples(context: RoundContext, start: Model) -> Iterator[Example]:
    """Winners of this round or of all so far, and a share of proposals, in the prompts of the model that is trained."""
    store, config, source = context.store, context.config, context.round.tasks_of
    shown = {seed.task.task_id: seed.task for seed in context.seeds}
    if config.instructions.demos == "evolving":
        shown |= store.demos(source)
    winners = store.winners(
        [*context.earlier, source] if config.training.data == "accumulate" else [source],
        policy=context.round.policy,
        paraphrases=config.training.paraphrases,
    )
    proposals = (([shown[demo] for demo in proposed.demos], proposed.task) for proposed in store.tasks(source))
    return training_examples(
        Spooled(winners, context.workspace.models),
        Spooled(proposals, context.workspace.models),
        load_prompts(config, context.workspace, start),
        proposal_share=config.training.proposal_share,
        names=(config.seed, source, "train"),
    )
