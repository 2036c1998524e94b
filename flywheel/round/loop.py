"""One turn of the wheel, top to bottom: propose, answer, score, select, train, evaluate.

A killed round is continued by the same call, from the chunk after the last committed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

from flywheel.config import Config
from flywheel.core.progress import Progress
from flywheel.core.quiet import silence
from flywheel.engines.generator import check_engine
from flywheel.errors import FlywheelError, Stopped, StoreHeld
from flywheel.evaluation.judges import refuse_partial_judges
from flywheel.records import Model, Policy, Round, Stage
from flywheel.reward.build import build_reward_model
from flywheel.round.budget import Budget
from flywheel.round.measuring import conclude, evaluate_generator, judge_candidates
from flywheel.round.opening import check_inputs, identity_of, open_control, open_round, refuse_changes
from flywheel.round.stages import Run
from flywheel.store.store import Store
from flywheel.workers.cluster import join_cluster
from flywheel.workspace import Workspace


def turn(
    workspace: Workspace, config: Config, progress: Progress, *, restart: bool = False, budget: Budget | None = None
) -> str:
    """Build what is missing, evaluate r0 if need be, run or resume the next round; returns its name.

    ``restart`` throws an unfinished round away and begins it anew. Raises BudgetSpent where the budget (by default
    the config's, from now on) is spent, Interrupted where a signal asks to stop; the same call goes on.
    """
    store, budget = workspace.store, budget or Budget(config.budget, config.prices)
    with _at_work(workspace, config, restart=restart):
        reward = build_reward_model(config, workspace, budget.watch(progress))
        refuse_partial_judges(config, {one.model_id: one.digest for one in _with_a_part_in_selecting(store, reward)})
        if restart:
            store.discard_unfinished()
        for _ in range(2):
            current = open_round(workspace, config, reward)
            workspace.refuse_altered(_scoring(store, current))
            run = Run(workspace=workspace, config=config, progress=progress, budget=budget, round=current)
            with _marked(store, current), closing(run):
                run_round(run)
            if current.number > 0:
                break
    return current.round


def propose_only(
    workspace: Workspace, config: Config, progress: Progress, *, restart: bool = False, budget: Budget | None = None
) -> str:
    """Propose the tasks of the next round, which `turn` goes on with; returns its name.

    No reward model is built, unless the config lets one choose among proposed tasks.
    """
    store, budget = workspace.store, budget or Budget(config.budget, config.prices)
    chosen_by_reward = config.instructions.best_of > 1 and config.instructions.best_by == "reward"
    with _at_work(workspace, config, restart=restart):
        reward = build_reward_model(config, workspace, budget.watch(progress)) if chosen_by_reward else None
        if restart:
            store.discard_unfinished()
        current = open_round(workspace, config, reward, proposing=True)
        run = Run(workspace=workspace, config=config, progress=progress, budget=budget, round=current)
        with _marked(store, current), closing(run):
            propose_tasks(run)
    return current.round


def begun_control(workspace: Workspace, policy: Policy) -> str | None:
    """The round beside which a control was begun and stopped: the same call goes on with that, and turns no further."""
    if not workspace.store.path.exists():
        return None
    workspace.store.migrate()
    every = workspace.store.rounds(controls=True)
    return next((one.tasks_of for one in every if one.policy == policy and one.status != "done"), None)


def turn_control(workspace: Workspace, policy: Policy, progress: Progress, *, of: str, budget: Budget) -> str:
    """Train a generator on what another policy picked among a round's candidates, and evaluate it; returns its name.

    All else is as in the round itself, whose settings hold. Raises as `turn` does, and StoreError for a round that is not
    done or whose candidates that policy did not pick from; the same call goes on.
    """
    store = workspace.store
    silence()
    with workspace.at_work():
        current = open_control(workspace, policy, of)
        if current.status == "done":
            return current.round
        workspace.refuse_altered(_scoring(store, current))
        settings = Config.model_validate(dict(current.config))
        run = Run(workspace=workspace, config=settings, progress=progress, budget=budget, round=current)
        with _marked(store, current), closing(run):
            run.stage(Stage.TRAIN, run.train, total=None, unit="steps")
            evaluate_trained(run)
    return current.round


def _scoring(store: Store, current: Round) -> list[Model]:
    """The reward model of a round and its members, and what the round has trained where that is only to be evaluated."""
    assert current.reward_model is not None
    reward = store.model(current.reward_model)
    trained = [store.model(current.generator_out)] if current.number > 0 and current.generator_out is not None else []
    return [reward, *map(store.model, reward.facts.members), *trained]


def _with_a_part_in_selecting(store: Store, reward: Model) -> list[Model]:
    """The reward model, its members, and all that they were made from."""
    found = {reward.model_id: reward}
    waiting = [reward.parent, *reward.facts.members]
    while waiting:
        if (model_id := waiting.pop()) is not None and model_id not in found:
            found[model_id] = store.model(model_id)
            waiting.append(found[model_id].parent)
    return list(found.values())


@contextmanager
def _at_work(workspace: Workspace, config: Config, *, restart: bool) -> Iterator[None]:
    """The workspace is ours, its tables are up to date, and an unfinished round can be gone on with."""
    silence()
    with workspace.at_work():
        workspace.store.migrate()
        check_inputs(config)
        check_engine(config)
        if config.cluster is not None:
            join_cluster(config, config.cluster)
        if not restart:
            refuse_changes(workspace.store.rounds(), identity_of(config))
        yield


@contextmanager
def _marked(store: Store, current: Round) -> Iterator[None]:
    """Mark a round as failed where it fails and the store can be written; one that was stopped is still running."""
    try:
        yield
    except (Stopped, StoreHeld):
        raise
    except Exception:
        with suppress(FlywheelError):
            store.set_status(current.round, "failed")
        raise


def run_round(run: Run) -> None:
    """All stages of one round; those that are finished are passed over. r0 is evaluated and nothing else."""
    if run.round.number > 0:
        propose_tasks(run)
        candidates = run.config.instructions.tasks * run.config.sampling.n
        if run.config.cluster is not None:
            run.stages((Stage.ANSWER, Stage.SCORE), run.answer_and_score, total=candidates, unit="candidates")
        run.stage(Stage.ANSWER, run.answer, total=candidates, unit="candidates")
        run.stage(Stage.SCORE, run.score, total=candidates, unit="candidates")
        run.stage(Stage.SELECT, run.select, total=run.config.instructions.tasks, unit="tasks")
        if run.config.evaluation.judges_candidates:
            judged = min(run.config.instructions.tasks, run.config.evaluation.curve_tasks)
            run.stage(Stage.JUDGE, partial(judge_candidates, run), total=judged, unit="tasks")
        if run.config.instructions.paraphrases.per_winner:
            run.stage(Stage.PARAPHRASE, run.paraphrase, total=None, unit="paraphrases")
        run.stage(Stage.TRAIN, run.train, total=None, unit="steps")
    evaluate_trained(run)


def evaluate_trained(run: Run) -> None:
    """The last stage of a round, and its verdict."""
    total = len(run.held_out) * run.config.evaluation.samples
    run.stage(Stage.EVALUATE, partial(evaluate_generator, run), total=total, unit="samples")
    conclude(run)


def propose_tasks(run: Run) -> None:
    """The first stage of a round."""
    run.stage(Stage.PROPOSE, run.propose, total=run.config.instructions.tasks, unit="tasks")
