"""Unnatural Instructions through the whole wheel: nano, and a model, an engine, seeds and a style that are unlike it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from flywheel import config as configuration
from flywheel.config import TrainingConfig
from flywheel.core.assets import asset
from flywheel.core.model_folders import chat_format
from flywheel.core.progress import Silent
from flywheel.core.quiet import silence
from flywheel.core.seeds import generator
from flywheel.errors import BudgetSpent, DataError
from flywheel.instructions.prompts import Prompts, format_task
from flywheel.instructions.tasks import read_reworded, read_seeds
from flywheel.round.budget import Budget
from flywheel.round.loop import propose_only, run_next_round
from flywheel.training import Example, Job, train_generator
from flywheel.workspace import Workspace
from tests.conftest import Cli, Outcome, copy
from tests.instructions.scripts import DIFFERENT, ScriptedEngine, task_text
from tests.test_loop import rows

pytestmark = pytest.mark.slow

SEEDS = [seed.task for seed in read_seeds(asset("data/seeds.jsonl"))]
REWORDED = read_reworded(asset("data/paraphrases.jsonl"))
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
DOCS = Path(__file__).parents[1] / "docs" / "instructions.md"


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of random weights with a tokenizer of its own and a chat template."""
    folder = tmp_path_factory.mktemp("random")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [format_task(task) for task in SEEDS]
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=1200, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=1024)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(fast), n_positions=1024, n_embd=64, n_layer=2, n_head=4, bos_token_id=None,
            eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def taught_model(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, taught for a minute to write in the three shapes that a round asks for; what it writes is nonsense."""
    silence()
    prompts = Prompts(asset("prompts"), chat=chat_format(random_model))
    rng = generator("taught")
    short = sorted(SEEDS, key=lambda task: len(format_task(task)))[:60]
    examples = []
    for number in range(420):
        *demos, task = rng.sample(short, 4)
        shapes = [
            Example(prompt=prompts.propose(demos), completion=prompts.written(task)),
            Example(prompt=prompts.answer(task), completion=prompts.output(task.input.split()[0])),
            Example(prompt=prompts.paraphrase(task, rng.sample(REWORDED, 2)), completion=rng.choice(REWORDED).alternative),
        ]
        examples.append(shapes[number % 3])
    folder = tmp_path_factory.mktemp("taught")
    config = TrainingConfig(epochs=3, learning_rate=4e-3, batch_size=8, max_length=1000)
    job = Job(
        start=str(random_model), folder=folder / "model", examples=examples, config=config, seed=0,
        checkpoints=folder / "checkpoints",
    )  # fmt: skip
    train_generator(job, lambda done, total: None)
    return folder / "model"


def unlike_nano(folder: Path, model: Path) -> Workspace:
    """A workspace with the general seeds, the transformers engine, the chat style and a reward model of one member."""
    held_out = folder / "heldout.jsonl"
    held_out.write_text("".join(json.dumps({"instruction": f"Say {word}.", "input": word}) + "\n" for word in "abcdefgh"))
    thumbs = folder / "thumbs.jsonl"
    answers = [
        {"instruction": "Say it.", "input": f"thing {number}", "output": ("bad thing", "fine")[number % 2], "label": number % 2}
        for number in range(240)
    ]
    thumbs.write_text("".join(json.dumps(row) + "\n" for row in answers))
    sets = [
        f"generator={model}", "prompt_style=chat", "engine.name=transformers", "engine.chunk=16",
        "instructions.seeds=asset:data/seeds.jsonl", "instructions.demos=pool", "instructions.tasks=12",
        "instructions.max_tokens=160", "instructions.temperature=0.5", "instructions.max_attempts=30",
        "instructions.filters.near_duplicate=0.7", "instructions.filters.held_out_similarity=0.7",
        "instructions.paraphrases.per_winner=2", "instructions.paraphrases.max_reward_fall=3.0",
        "training.paraphrases=true",
        "sampling.n=2", "sampling.max_tokens=16", "training.max_length=1000", "training.epochs=1",
        f"reward.base={model}", "reward.layers=1", "reward.joint.epochs=0",
        f"reward.members={{thumbs: {{kind: thumbs, data: {thumbs}, weight: 1.0}}}}",
        "reward.epochs=4", "reward.learning_rate=2e-3",
        f"evaluation.tasks={held_out}", "evaluation.judge=tests.judges:likes_length", "evaluation.samples=2",
    ]  # fmt: skip
    workspace = Workspace(folder / "workspace")
    workspace.init(configuration.find("nano"), sets)
    return workspace


def test_a_model_of_random_weights_proposes_nothing_and_every_attempt_says_why(random_model: Path, tmp_path: Path) -> None:
    workspace = unlike_nano(tmp_path, random_model)
    with pytest.raises(DataError) as error:
        propose_only(workspace, workspace.config(), Silent())
    assert "0 of 12 tasks" in error.value.message
    assert "360 attempts (instructions.max_attempts = 30)" in error.value.message
    assert rows(workspace.folder, "SELECT reason, count(*) FROM tasks GROUP BY ALL ORDER BY ALL") in (
        [("missing field", found), ("truncated", 360 - found)] for found in range(360)
    )
    assert rows(workspace.folder, "SELECT count(*) FROM tasks WHERE raw <> ''") == [(360,)]


def test_the_whole_path_with_another_model_engine_style_and_seeds(taught_model: Path, tmp_path: Path) -> None:
    workspace = unlike_nano(tmp_path, taught_model)
    assert run_next_round(workspace, workspace.config(), Silent()) == "r1"
    assert rows(workspace.folder, "SELECT count(*) FROM tasks WHERE origin = 'proposed' AND kept") == [(12,)]
    assert rows(workspace.folder, "SELECT count(*) FROM candidates") == [(24,)]
    stages = [row[0] for row in rows(workspace.folder, "SELECT stage FROM stages WHERE round = 'r1' ORDER BY started_at")]
    assert stages == ["propose", "answer", "score", "select", "judge", "paraphrase", "train", "evaluate"]
    winners = rows(workspace.folder, "SELECT count(*) FROM dataset")[0][0]
    written = "SELECT count(*), count(*) FILTER (kept), count(DISTINCT parent_task) FROM tasks WHERE origin = 'paraphrased'"
    count, kept, parents = rows(workspace.folder, written)[0]
    assert (count, parents) == (2 * winners, winners)
    assert kept > 0
    # A paraphrase has its winner's input, constraints and output.
    same = """
        SELECT count(*) FROM expanded AS p JOIN dataset AS d ON d.task_id = p.winner
        WHERE p.origin = 'paraphrased' AND (p.input, p.constraints, p.output) = (d.input, d.constraints, d.output)
    """
    assert rows(workspace.folder, same) == [(kept,)]
    trained = rows(workspace.folder, "SELECT (facts->>'rows')::INT FROM models WHERE kind = 'generator' AND name = 'r1'")
    assert trained == [(winners + kept + round((winners + kept) / 4),)]


def test_tasks_that_were_proposed_alone_are_those_of_the_round(
    built: Path, turned: Path, small: list[str], tmp_path: Path
) -> None:
    alone = Workspace(tmp_path / "alone")
    alone.init(configuration.find("nano"), small)
    assert propose_only(alone, alone.config(), Silent()) == "r1"
    assert not rows(alone.folder, "SELECT * FROM models WHERE kind IN ('member', 'reward')")
    tasks = "SELECT * FROM tasks WHERE round = 'r1' ORDER BY ALL"
    assert rows(alone.folder, tasks) == rows(turned, tasks)
    assert rows(alone.folder, "SELECT round, status FROM rounds ORDER BY ALL") == [("r0", "running"), ("r1", "running")]
    # With the reward model that is built by now, both go on.
    workspace = Workspace(copy(built, tmp_path))
    assert propose_only(workspace, workspace.config(), Silent()) == "r1"
    assert propose_only(workspace, workspace.config(), Silent()) == "r1"
    assert run_next_round(workspace, workspace.config(), Silent()) == "r1"
    for table in ("tasks", "candidates", "scores", "evaluations"):
        sql = f"SELECT * FROM {table} WHERE round = 'r1' ORDER BY ALL"
        assert rows(workspace.folder, sql) == rows(turned, sql), table


def test_a_round_that_was_opened_without_a_reward_model_gets_one(small: list[str], tmp_path: Path) -> None:
    alone = Workspace(tmp_path / "alone")
    alone.init(configuration.find("nano"), small)
    propose_only(alone, alone.config(["instructions.tasks=8"]), Silent())
    assert run_next_round(alone, alone.config(["instructions.tasks=8"]), Silent()) == "r1"
    assert rows(alone.folder, "SELECT round, status, reward_model IS NOT NULL FROM rounds ORDER BY number") == [
        ("r0", "done", True), ("r1", "done", True),
    ]  # fmt: skip
    assert rows(alone.folder, "SELECT count(*) FROM verdicts WHERE round = 'r1'") == [(1,)]


def lineage_query() -> str:
    """The query that the documentation gives."""
    found = re.search(r"```sql\n(WITH RECURSIVE.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    return found.group(1)


def test_evolving_demos_can_be_followed_back_to_the_seeds(built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    config = workspace.config(["instructions.demos=evolving", "instructions.evolving_share=0.5", "instructions.tasks=40",
                               "instructions.filters.compare=task"])  # fmt: skip
    for _ in range(2):
        run_next_round(workspace, config, Silent())
    winners = {row[0] for row in rows(workspace.folder, "SELECT task_id FROM dataset WHERE round = 'r1'")}
    shown = rows(workspace.folder, "SELECT task_id, demos FROM tasks WHERE round = 'r2' AND kept")
    share = sum(demo in winners for _, demos in shown for demo in demos) / (3 * len(shown))
    assert share == pytest.approx(0.5, abs=0.15)
    task_id = next(task_id for task_id, demos in shown if any(demo in winners for demo in demos))
    lineage = rows(workspace.folder, lineage_query().replace("TASK_ID", task_id))
    assert lineage[0][:2] == (0, "r2")
    assert {round_name for _, round_name, *_ in lineage} == {"r2", "r1", "seed"}
    last = max(generation for generation, *_ in lineage)
    assert {row[1] for row in lineage if row[0] == last} == {"seed"}
    # Whatever is no seed was itself proposed from three others.
    assert sum(row[1] == "seed" for row in lineage) >= 3


def replay(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, str]]) -> None:
    """Make every engine replay these rows from the first one on."""
    monkeypatch.setattr("flywheel.engines.generator.load", lambda *arguments, **options: ScriptedEngine(rows))


def test_paraphrases_of_a_killed_or_stopped_round_are_the_same(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [task_text(f"Say it with {word}.", word) for word in "one two three four five six seven eight nine ten".split()]
    lines = [{"text": text, "when": "Example 4"} for text in words]
    # Every alternative differs, so that a restarted script writes what an undisturbed one would.
    lines.append({"text": " Use this word."})
    replay(monkeypatch, lines)
    monkeypatch.setenv("FLYWHEEL_TEST_SCRIPT", json.dumps(lines))
    sets = ["engine.chunk=5", "instructions.tasks=10",
            "instructions.paraphrases.per_winner=1", "instructions.paraphrases.max_reward_fall=null",
            "instructions.filters.near_duplicate=null"]  # fmt: skip
    whole, stopped, killed = (Workspace(copy(built, tmp_path / name)) for name in ("whole", "stopped", "killed"))
    run_next_round(whole, whole.config(sets), Silent())
    tokens = rows(whole.folder, "SELECT sum(tokens) FROM stages WHERE round = 'r1' AND stage IN ('propose', 'answer')")[0][0]
    config = stopped.config(sets)
    with pytest.raises(BudgetSpent):
        run_next_round(
            stopped, config, Silent(), budget=Budget(config.budget.model_copy(update={"tokens": tokens + 1}), config.prices)
        )
    assert rows(stopped.folder, "SELECT chunks FROM stages WHERE stage = 'paraphrase'") == [(1,)]
    run_next_round(stopped, config, Silent())
    arguments = [sys.executable, "-m", "tests.crash", killed.folder, "paraphrase", "after", "1"]
    died = subprocess.run([*arguments, *(f"--set={one}" for one in sets)], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    run_next_round(killed, killed.config(sets), Silent())
    kept = "SELECT * FROM tasks WHERE origin = 'paraphrased' ORDER BY ALL"
    assert len(rows(whole.folder, kept)) == 10
    assert rows(stopped.folder, kept) == rows(whole.folder, kept) == rows(killed.folder, kept)


def test_a_scripted_round_keeps_and_drops_exactly_what_it_should(
    built: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"text": text, "when": "Example 4"} for text in [DIFFERENT[0], DIFFERENT[0], " no fields", *DIFFERENT[1:4]]]
    replay(monkeypatch, [*lines, {"text": " an answer"}, {"text": " another", "finish_reason": "length"}])
    folder = copy(built, tmp_path)
    sets = ["instructions.tasks=4", "instructions.filters.near_duplicate=0.7"]
    outcome = cli("-w", folder, "round", "--n", "2", "--json", *(f"--set={one}" for one in sets))
    assert outcome.code == 0, outcome.err
    (told,) = json.loads(outcome.out)
    assert (told["proposed"], told["kept"], told["candidates"], told["winners"]) == (8, 4, 8, 4)
    assert told["dropped"] == {"missing field": 1, "exact-duplicate": 3}
    assert told["diversity"]["sample"] == 4


def test_best_of_several_tasks_makes_a_round_more_diverse(built: Path, tmp_path: Path) -> None:
    plain, best = (Workspace(copy(built, tmp_path / name)) for name in ("plain", "best"))
    sets = ["instructions.tasks=60", "instructions.filters.compare=task"]
    propose_only(plain, plain.config(sets), Silent())
    propose_only(best, best.config([*sets, "instructions.best_of=4"]), Silent())
    attempts = rows(
        best.folder, "SELECT count(*), count(*) FILTER (kept), count(*) FILTER (reason = 'not the best') FROM tasks"
    )[0]
    assert attempts[0] % 4 == 0
    assert attempts[1] == 60
    assert attempts[2] > 100
    measure = "SELECT distinct_2 FROM task_diversity"
    assert rows(best.folder, measure)[0][0] > rows(plain.folder, measure)[0][0]


def test_the_reward_model_can_choose_among_proposed_tasks(built: Path, tmp_path: Path) -> None:
    workspace = Workspace(copy(built, tmp_path))
    sets = ["instructions.tasks=20", "instructions.best_of=3", "instructions.best_by=reward"]
    assert propose_only(workspace, workspace.config(sets), Silent()) == "r1"
    assert rows(workspace.folder, "SELECT count(*) FROM tasks WHERE kept") == [(20,)]


def refused(outcome: Outcome, quoted: str) -> None:
    """The command ended with one error that quotes this, and printed nothing else."""
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines() == [f"error: {outcome.error}", *([f"hint: {outcome.hint}"] if outcome.hint else [])]
    assert quoted in f"{outcome.error} {outcome.hint}"


@pytest.mark.parametrize(
    ("setting", "quoted"),
    [
        ("seed=99999999999999999999999", "seed = 99999999999999999999999"),
        ("instructions.tasks=true", "instructions.tasks = True"),
        ("instructions.best_of=1000000", "256"),
        ("instructions.demos=all", "'sets', 'pool' or 'evolving'"),
        ("instructions.filters.near=0.5", "instructions.filters.near"),
        ("instructions.filters.language=english", "english"),
        ("instructions.filters.custom=mine", "instructions.filters.custom = 'mine'"),
        ("instructions.filters=3", "instructions.filters = 3"),
        ("instructions.temperature=.inf", "instructions.temperature = inf"),
        ("budget.minutes=.inf", "budget.minutes = inf"),
        ("instructions.tasks=1e999", "instructions.tasks = inf"),
        ("instructions.filters.decontaminate=[nowhere.jsonl]", "nowhere.jsonl"),
        ("instructions.paraphrases.max_reward_fall=-1", "max_reward_fall = -1"),
        ("training.paraphrases=true", "training.paraphrases"),
        ("prompt_style=chat", "chat template"),
        ("prompts=/nowhere", "/nowhere"),
        ("engine.name=scripted", "engine.name = 'scripted'"),
        ("budget.minutes=0", "budget.minutes = 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(
    tmp_path: Path, cli: Cli, setting: str, quoted: str
) -> None:
    refused(cli("-w", tmp_path / "workspace", "propose", "--set", setting), quoted)
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    ("content", "quoted"),
    [
        ("", "seeds.jsonl has no rows"),
        ('{"instruction": "A", "input": "x"}\n' * 2, "seeds.jsonl has fewer than 3 tasks"),
        ('{"set": 1, "instruction": "A", "input": "x"}\n{"instruction": "B", "input": "x"}', "seed set '1'"),
        ('{"instruction": "\\ud800", "input": "x"}\n' * 3, "line 1: 'instruction'"),
        ('{"instruction": " ", "input": "x"}', "line 1: 'instruction'"),
        ('{"instruction": "A"', "line 1 is not JSON"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(tmp_path: Path, cli: Cli, content: str, quoted: str) -> None:
    (tmp_path / "seeds.jsonl").write_text(content)
    refused(cli("-w", tmp_path / "workspace", "propose", "--set", f"instructions.seeds={tmp_path / 'seeds.jsonl'}"), quoted)
