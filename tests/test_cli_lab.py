"""The reward lab from the command line: what works, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from flywheel.core.assets import asset
from flywheel.records import ModelKind
from flywheel.workspace import Workspace
from tests.conftest import Cli, Outcome, copy
from tests.reward.families import make_model

GENERATOR = asset("data/nano/generator")


def refused(ran: Outcome, quoted: str, hint: str = "") -> None:
    """The command ended with one error that quotes this, and a hint that names that."""
    assert ran.code == 1, ran.out
    assert len([line for line in ran.err.splitlines() if line.startswith("error:")]) == 1, ran.err
    assert "Traceback" not in ran.err
    assert quoted in ran.error, ran.err
    assert hint in ran.hint, ran.err


@pytest.fixture
def workspace(built: Path, tmp_path: Path) -> Workspace:
    return Workspace(copy(built, tmp_path))


@pytest.fixture
def folders(workspace: Workspace) -> dict[str, Path]:
    members = {model.name: workspace.locate(model) for model in workspace.store.models(ModelKind.MEMBER)}
    return members | {"base": workspace.locate(workspace.store.models(ModelKind.BASE)[1])}


def test_slice_train_merge_check_score_by_hand(
    workspace: Workspace, folders: dict[str, Path], cli: Cli, tmp_path: Path
) -> None:
    sliced = cli("reward", "slice", GENERATOR, "--layers", 2, "--to", tmp_path / "two")
    assert sliced.code == 0, sliced.err
    assert "2 of 4 layers" in sliced.out
    assert "one head" in sliced.out
    members = json.loads(cli("-w", workspace.folder, "reward", "train", "pairs", "--json").out)
    assert [(member["name"], member["rows"] > 100) for member in members] == [("pairs", True)]
    merge = cli(
        "reward", "merge", f"{folders['thumbs']}=0.5", f"{folders['pairs']}=0.6", f"{folders['form']}=0.05",
        "--base", folders["base"], "--to", tmp_path / "merged", "--density", 0.9,
    )  # fmt: skip
    assert merge.code == 0, merge.err
    recipe = yaml.safe_load(merge.out)
    assert recipe["merge_method"] == "ties"
    assert [model["parameters"] for model in recipe["models"]] == [{"weight": w, "density": 0.9} for w in (0.5, 0.6, 0.05)]
    assert (tmp_path / "merged/mergekit.yaml").read_text() == merge.out
    assert cli("-w", workspace.folder, "reward", "check", tmp_path / "merged").code == 0
    scored = cli("-w", workspace.folder, "reward", "score", tmp_path / "merged", "one", "two", "--json")
    assert {row["text"] for row in json.loads(scored.out)} == {"one", "two"}


@pytest.mark.parametrize("method", ["ties", "linear", "dare_ties", "della", "slerp"])
def test_every_method_gives_a_reward_model(method: str, folders: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    arguments = [
        "reward",
        "merge",
        f"{folders['thumbs']}=1",
        f"{folders['pairs']}=2",
        "--base",
        folders["base"],
        "--method",
        method,
    ]
    for name in ("once", "again"):
        ran = cli(*arguments, "--density", 0.7, "--to", tmp_path / name)
        assert ran.code == 0, ran.err
    assert (tmp_path / "once/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()
    merged, base = (load_file(path / "model.safetensors")["score.weight"] for path in (tmp_path / "once", folders["base"]))
    assert not torch.equal(merged, base)


def test_half_precision_on_disk(workspace: Workspace, folders: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    ran = cli(
        "reward", "merge", f"{folders['thumbs']}=1", f"{folders['pairs']}=1",
        "--base", folders["base"], "--dtype", "float16", "--to", tmp_path / "half",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert load_file(tmp_path / "half/model.safetensors")["score.weight"].dtype == torch.float16
    assert cli("-w", workspace.folder, "reward", "check", tmp_path / "half").code == 0


def another(folder: Path, name: str, tmp_path: Path) -> Path:
    """A copy of a member that is broken in some way."""
    path = Path(shutil.copytree(folder, tmp_path / name))
    tensors = load_file(path / "model.safetensors")
    match name:
        case "nan":
            tensors["model.norm.weight"][3] = float("nan")
        case "deeper":
            tokenizer = AutoTokenizer.from_pretrained(folder)
            shutil.rmtree(path)
            from flywheel.reward.slice import build_base

            build_base(str(GENERATOR), path, layers=4, seed=0)
            assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(path).get_vocab()
            return path
        case "other-tokenizer":
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokenizer.add_tokens(["anotherword"])
            tokenizer.save_pretrained(path)
        case "two-labels":
            AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=2, ignore_mismatched_sizes=True
            ).save_pretrained(path)
            return path
        case "causal":
            shutil.rmtree(path)
            return Path(shutil.copytree(GENERATOR, path))
        case "other-family":
            shutil.rmtree(path)
            from flywheel.reward.slice import build_base

            build_base(str(make_model("gpt2", tmp_path / "gpt2")), path, layers=3, seed=0)
            return path
        case "no-tokenizer":
            for file in path.glob("token*"):
                file.unlink()
        case "truncated":
            (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:1000])
            return path
        case "broken-config":
            (path / "config.json").write_text("{")
            return path
        case "wider":
            tensors["model.extra.weight"] = torch.ones(2)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("nan", "model.norm.weight"),
        ("deeper", "num_hidden_layers 4"),
        ("other-tokenizer", "tokenizers"),
        ("two-labels", "2 labels"),
        ("causal", "LlamaForCausalLM"),
        ("other-family", "model_type gpt2"),
        ("no-tokenizer", "tokenizer"),
        ("truncated", "cannot read"),
        ("wider", "model.extra.weight"),
        ("broken-config", "config.json"),
    ],
)
def test_members_that_cannot_be_merged(name: str, quoted: str, folders: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    bad = another(folders["pairs"], name, tmp_path)
    ran = cli("reward", "merge", f"{folders['thumbs']}=1", f"{bad}=1", "--base", folders["base"], "--to", tmp_path / "merged")
    refused(ran, quoted)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["{thumbs}=nan", "{pairs}=1"], "=nan'"),
        (["{thumbs}=0", "{pairs}=1"], "=0'"),
        (["{thumbs}=-1", "{pairs}=1"], "=-1'"),
        (["{thumbs}=inf", "{pairs}=1"], "=inf'"),
        (["{thumbs}", "{pairs}=1"], "FOLDER=WEIGHT"),
        (["{thumbs}=1", "{thumbs}=2"], "duplicate member"),
        (["{thumbs}=1e300", "{pairs}=1e308"], "NaN or infinite"),
        (["{thumbs}=1", "{pairs}=1", "--to", "/proc/x"], "cannot write /proc/x"),
        (["{thumbs}=1"], "got 1"),
        (["nowhere=1", "{pairs}=1"], "no model folder at nowhere"),
        (["{thumbs}=1", "{pairs}=1", "--method", "tie"], "method = 'tie' must be 'ties', 'linear'"),
        (["{thumbs}=1", "{pairs}=1", "--density", "2"], "density = 2.0 must be less than or equal to 1"),
        (["{thumbs}=1", "{pairs}=1", "--method", "della", "--density", "1"], "density = 1.0 is out of range"),
        (["{thumbs}=1", "{pairs}=1", "{form}=1", "--method", "slerp"], "slerp merges two models, got 3"),
        (["{thumbs}=1", "{pairs}=1", "--to", "{form}"], "already exists"),
    ],
)
def test_merges_that_make_no_sense(
    arguments: list[str], quoted: str, folders: dict[str, Path], cli: Cli, tmp_path: Path
) -> None:
    filled = [argument.format(**folders) for argument in arguments]
    target = [] if "--to" in filled else ["--to", tmp_path / "merged"]
    refused(cli("reward", "merge", *filled, "--base", folders["base"], *target), quoted)


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["slice", "nowhere/at/all", "--layers", "2", "--to", "x"], "no model folder at nowhere/at/all"),
        (["slice", GENERATOR, "--layers", "9", "--to", "x"], "9 layers"),
        (["train", "pear"], "'pear'"),
        (["check", "nobody"], "no reward model or folder 'nobody'"),
        (["score", "", "text"], "the model's name is empty"),
        (["score", "merged", "a\udcff"], "text 1"),
        (["slice", GENERATOR, "--layers", "2", "--to", "/proc/x"], "cannot write /proc/x"),
        (["score", "nobody", "text"], "no reward model or folder 'nobody'"),
        (["score", GENERATOR, "text"], "LlamaForCausalLM"),
        (["build", "--set", "reward.merge.method=slerp"], "merge.method = 'slerp'"),
        (["build", "--set", "reward.merge.method=breadcrumb"], "reward.merge.method = 'breadcrumb' must be 'ties'"),
        (["build", "--set", "reward.members.pairs.weight=.nan"], "reward.members.pairs.weight"),
        (["build", "--set", "reward.members.pairs.kind=triples"], "reward.members.pairs.kind = 'triples' must be 'thumbs'"),
        (["build", "--set", "reward.members.pairs.columns.chosn=x"], "chosn"),
        (["build", "--set", "reward.members.pairs.columns.chosen=x"], "no column 'x' (columns.chosen)"),
        (["build", "--set", "reward.members.pairs.data=nothing.jsonl"], "nothing.jsonl"),
        (["build", "--set", "reward.members.thumbs.kind=pairs"], "'chosen'"),
        (["build", "--set", "reward.lora.rank=0"], "reward.lora.rank = 0 must be greater than or equal to 1"),
    ],
)
def test_mistakes_in_the_lab_are_one_line(
    arguments: list[str], quoted: str, workspace: Workspace, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(cli("-w", workspace.folder, "reward", *arguments), quoted)


def test_a_failed_check_ends_with_one(workspace: Workspace, folders: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    bad = another(folders["pairs"], "nan", tmp_path)
    ran = cli("-w", workspace.folder, "reward", "check", bad)
    assert ran.code == 1
    assert "!!" in ran.out
    assert "NaN or infinity in model.norm.weight" in ran.out


def test_a_folder_is_scored_and_checked_without_a_workspace(folders: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    scored = cli("-w", nowhere, "reward", "score", folders["pairs"], "Paris.", "No.", "--instruction", "Capital?", "--json")
    assert [set(row) for row in json.loads(scored.out)] == [{"score", "text"}] * 2
    checked = json.loads(cli("-w", nowhere, "reward", "check", folders["pairs"], "--json").out)
    assert all(check["ok"] for check in checked)
    assert not [check for check in checked if check["name"].startswith("label order")]
    assert not nowhere.exists()
    refused(cli("-w", nowhere, "reward", "score", "merged", "x"), "'merged'", str(nowhere))


def test_search_prints_what_to_write(workspace: Workspace, cli: Cli) -> None:
    ran = cli("-w", workspace.folder, "reward", "search", "--trials", 4)
    assert ran.code == 0, ran.err
    assert "lowest share kept" in ran.out
    assert "beats" in ran.out
    search = json.loads(cli("-w", workspace.folder, "reward", "search", "--trials", 4, "--json").out)
    assert len({trial["trial"] for trial in search["tried"]}) == 4
    assert search["merged"] == (len(search["weights"]) == 3)


def test_pairs_are_made_of_thumbs(cli: Cli, tmp_path: Path) -> None:
    thumbs = tmp_path / "thumbs.jsonl"
    thumbs.write_text("\n".join(json.dumps({"input_text": f"t{n}", "labels": n % 3, "bot_id": n // 10}) for n in range(100)))
    ran = cli("reward", "pairs", thumbs, "--group-by", "bot_id", "--threshold", 1, "--to", tmp_path / "pairs.jsonl")
    assert ran.code == 0, ran.err
    assert "pairs from 100 thumbs; 10 of 10 groups" in ran.out
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert {row["group"] for row in rows} == {str(n) for n in range(10)}
    refused(cli("reward", "pairs", thumbs, "--group-by", "bot_id", "--to", tmp_path / "pairs.jsonl"), "already exists")
    refused(cli("reward", "pairs", thumbs, "--group-by", "bot", "--to", tmp_path / "x"), "'bot' (columns.group)")
    refused(cli("reward", "pairs", thumbs, "--group-by", "bot_id", "--to", tmp_path / "x"), "label 2", "threshold")
    refused(
        cli("reward", "pairs", thumbs, "--group-by", "bot_id", "--column", "text", "--to", tmp_path / "x"),
        "'text'",
        "text=input_text",
    )
