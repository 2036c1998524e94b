"""One round of the wheel, top to bottom: propose, answer, score, select, train, evaluate.

The same call resumes a round that was killed, after its last committed chunk.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, redirect_stdout, suppress

from flywheel.config import Config
from flywheel.core.progress import Progress
from flywheel.core.quiet import silence
from flywheel.engines.factory import check
from flywheel.engines.generator import generator_folder
from flywheel.errors import FlywheelError, Stopped, StoreHeld
from flywheel.evaluation.judges import refuse_partial_judges
from flywheel.records import Model, Policy, Round
from flywheel.reward.build import build_reward_model
from flywheel.round.budget import Budget
from flywheel.round.checks import check_inputs
from flywheel.round.context import RoundContext
from flywheel.round.fingerprint import identity_of, refuse_changes
from flywheel.round.opening import open_control, open_round
from flywheel.round.stages.answer import answer, answer_and_score, score
from flywheel.round.stages.evaluate import evaluate
from flywheel.round.stages.judge import judge
from flywheel.round.stages.paraphrase import paraphrase
from flywheel.round.stages.propose import propose
from flywheel.round.stages.select import select
from flywheel.round.stages.train import train
from flywheel.round.verdict import conclude
from flywheel.store.store import Store
from flywheel.workers.cluster import join_cluster
from flywheel.workspace import Workspace


def run_stages(context: RoundContext) -> None:
    """All stages of one round; a finished one is skipped. r0 is only evaluated."""
    if context.round.number > 0:
        propose(context)
        if context.config.cluster is not None:
            answer_and_score(context)
        answer(context)
        score(context)
        select(context)
        if context.config.evaluation.judges_candidates:
            judge(context)
        if context.config.instructions.paraphrases.per_winner:
            paraphrase(context)
        train(context)
    evaluate(context)
    conclude(context)


def run_next_round(
    workspace: Workspace, config: Config, progress: Progress, *, restart: bool = False, budget: Budget | None = None
) -> str:
    """Build the reward model if it is missing, evaluate r0 if it is not, run or resume the next round; returns its name.

    ``restart`` discards an unfinished round and starts it over. Raises BudgetSpent where the budget (by default the
    config's, from now on) is spent, Interrupted where a signal asks to stop; the same call resumes.
    """
    store, budget = workspace.store, budget or Budget(config.budget, config.prices)
    with _at_work(workspace, config, restart=restart):
        reward = build_reward_model(config, workspace, budget.watch(progress))
        refuse_partial_judges(config, {model.model_id: model.digest for model in _ancestry(store, reward)})
        if restart:
            store.discard_unfinished()
        for _ in range(2):
            current = open_round(workspace, config, reward)
            workspace.refuse_altered(_models_in_use(store, current))
            with _context(workspace, config, progress, budget, current) as context:
                run_stages(context)
            if current.number > 0:
                break
    return current.round


def propose_only(
    workspace: Workspace, config: Config, progress: Progress, *, restart: bool = False, budget: Budget | None = None
) -> str:
    """Propose the tasks of the next round, which `run_next_round` resumes; returns its name.

    No reward model is built, unless the config has it choose among proposed tasks.
    """
    store, budget = workspace.store, budget or Budget(config.budget, config.prices)
    needs_reward = config.instructions.best_of > 1 and config.instructions.best_by == "reward"
    with _at_work(workspace, config, restart=restart):
        reward = build_reward_model(config, workspace, budget.watch(progress)) if needs_reward else None
        if restart:
            store.discard_unfinished()
        current = open_round(workspace, config, reward, proposing=True)
        with _context(workspace, config, progress, budget, current) as context:
            propose(context)
    return current.round


def run_control(workspace: Workspace, policy: Policy, progress: Progress, *, of: str, budget: Budget) -> str:
    """Train a generator on what another policy selected among a round's candidates, and evaluate it; returns its name.

    All else is as in that round, whose settings hold. Raises as `run_next_round`, and StoreError for a round that is not
    done or in which the policy selected nothing; the same call resumes.
    """
    store = workspace.store
    silence()
    with workspace.at_work():
        current = open_control(workspace, policy, of)
        if current.status == "done":
            return current.round
        workspace.refuse_altered(_models_in_use(store, current))
        config = Config.model_validate(dict(current.config))
        with _context(workspace, config, progress, budget, current) as context:
            train(context)
            evaluate(context)
            conclude(context)
    return current.round


def _models_in_use(store: Store, current: Round) -> list[Model]:
    """The reward model of a round and its members, and what the round has trained if that is still to be evaluated."""
    assert current.reward_model is not None
    reward = store.model(current.reward_model)
    trained = [store.model(current.generator_out)] if current.number > 0 and current.generator_out is not None else []
    return [reward, *map(store.model, reward.facts.members), *trained]


def _ancestry(store: Store, reward: Model) -> list[Model]:
    """The reward model, its members, and all models that they were made from."""
    models = {reward.model_id: reward}
    waiting = [reward.parent, *reward.facts.members]
    while waiting:
        if (model_id := waiting.pop()) is not None and model_id not in models:
            models[model_id] = store.model(model_id)
            waiting.append(models[model_id].parent)
    return list(models.values())


@contextmanager
def _at_work(workspace: Workspace, config: Config, *, restart: bool) -> Iterator[None]:
    """Take the workspace, bring its tables up to date, and check that the next round can run or be resumed."""
    silence()
    # Ray prints the errors of its nodes to stdout, which is for answers.
    with redirect_stdout(sys.stderr) if config.cluster else nullcontext(), workspace.at_work():
        workspace.store.migrate()
        check_inputs(config)
        if config.cluster is None:
            check(config.engine, generator_folder(config))
        else:
            join_cluster(config, config.cluster)
        if not restart:
            refuse_changes(workspace.store.rounds(), identity_of(config))
        yield


@contextmanager
def _context(
    workspace: Workspace, config: Config, progress: Progress, budget: Budget, current: Round
) -> Iterator[RoundContext]:
    """The context of a round, which is marked as failed where it fails; one that was stopped is still running."""
    context = RoundContext(workspace=workspace, config=config, progress=progress, budget=budget, round=current)
    try:
        with closing(context):
            yield context
    except (Stopped, StoreHeld):
        raise
    except Exception:
        with suppress(FlywheelError):  # the store may be what failed
            workspace.store.set_status(current.round, "failed")
        raise
