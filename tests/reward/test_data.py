"""Preference data from anywhere: every form is read, what cannot be used is counted, splits go by prompt."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from flywheel.config import DataConfig
from flywheel.errors import DataError
from flywheel.reward.data import Pair, PreferenceSet, Thumb, separate
from flywheel.reward.pairs import group_into_pairs
from flywheel.reward.reading import read_set
from flywheel.reward.sources import Split, find_source, read_source, split_in_name

SHARED = Path(__file__).parents[3] / "shared" / "data"
ROW = {"instruction": "Sort.", "input": "b, a", "constraints": "None"}


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def read(path: Path | str, **settings: Any) -> PreferenceSet:
    config = DataConfig(data=str(path), **({"kind": "pairs"} | settings))
    return read_set(read_source(find_source(config.data, Path(config.data))), config)


def outputs(one: PreferenceSet) -> list[tuple[str, ...]]:
    return [tuple(answer.output for answer in row.answers) for row in one.rows]


# Forms of files


def thumbs_rows() -> list[dict[str, Any]]:
    return [{"input_text": f"Bot: hello\nYou: {number}\nBot: well, {number}", "labels": number % 2} for number in range(40)]


def as_jsonl(folder: Path) -> Path:
    return write(folder / "thumbs.jsonl", *thumbs_rows())


def as_gzipped(folder: Path) -> Path:
    path = folder / "thumbs.jsonl.gz"
    path.write_bytes(gzip.compress(as_jsonl(folder).read_bytes()))
    return path


def as_json(folder: Path) -> Path:
    (folder / "thumbs.json").write_text(json.dumps(thumbs_rows()))
    return folder / "thumbs.json"


def as_csv(folder: Path) -> Path:
    with (folder / "thumbs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["input_text", "labels"])
        writer.writeheader()
        writer.writerows(thumbs_rows())
    return folder / "thumbs.csv"


def as_parquet(folder: Path) -> Path:
    parquet.write_table(pa.Table.from_pylist(thumbs_rows()), folder / "thumbs.parquet")
    return folder / "thumbs.parquet"


def as_folder(folder: Path) -> Path:
    (folder / "set" / "data").mkdir(parents=True)
    table = pa.Table.from_pylist(thumbs_rows())
    parquet.write_table(table.slice(0, 30), folder / "set/data/train-00000-of-00001.parquet")
    parquet.write_table(table.slice(30), folder / "set/data/test-00000-of-00001.parquet")
    return folder / "set"


def as_saved_dataset(folder: Path) -> Path:
    from datasets import Dataset

    Dataset.from_list(thumbs_rows()).save_to_disk(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("make", [as_jsonl, as_gzipped, as_json, as_csv, as_parquet, as_folder, as_saved_dataset])
def test_every_form_of_file_gives_the_same_thumbs(make: Any, tmp_path: Path) -> None:
    found = read(make(tmp_path), kind="thumbs")
    expected = [(row["input_text"], bool(row["labels"])) for row in thumbs_rows()]
    assert sorted((row.answer.output, row.liked) for row in found.rows if isinstance(row, Thumb)) == sorted(expected)
    assert all(answer.task is None for row in found.rows for answer in row.answers)


def test_a_folder_names_its_splits(tmp_path: Path) -> None:
    found = read(as_folder(tmp_path), kind="thumbs")
    assert len(found.of(Split.TEST)) == 10
    assert len(found.of(Split.VALIDATION)) > 0
    assert len(found.of(Split.TRAIN)) + len(found.of(Split.VALIDATION)) == 30


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00003.parquet", Split.TRAIN), ("hh.test.jsonl.gz", Split.TEST), ("dev.csv", Split.VALIDATION),
        ("test/data.jsonl", Split.TEST), ("latest.jsonl", None), ("trains.jsonl", None),
    ],
)  # fmt: skip
def test_splits_are_words_of_a_name(name: str, split: Split | None) -> None:
    assert split_in_name(Path("somewhere") / name) == split


def test_a_hub_id_is_downloaded_whole_or_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ROW | {"input": str(number), "chosen": "a", "rejected": "b"} for number in range(30)]
    write(tmp_path / "harmless-base/train.jsonl", *rows)
    asked = []

    def download(repository: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((repository, repo_type, allow_patterns[0]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    config = DataConfig(kind="pairs", data="Anthropic/hh-rlhf/harmless-base")
    files = find_source(config.data, Path("nowhere"))
    assert len(read_set(read_source(files), config).rows) == 30
    assert asked == [("Anthropic/hh-rlhf", "dataset", "harmless-base/*.jsonl")]


# Thumbs


def test_labels_above_one_need_a_threshold(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", *({"text": f"a\n{number}", "labels": number % 3} for number in range(30)))
    with pytest.raises(DataError) as error:
        read(path, kind="thumbs")
    assert "line 3" in error.value.message
    assert "threshold" in error.value.hint
    likes = [sum(row.liked for row in read(path, kind="thumbs", threshold=at).rows if isinstance(row, Thumb)) for at in (1, 2)]
    assert likes == [20, 10]


def test_labels_that_are_no_number_and_half_characters_are_dropped(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": n % 2} for n in range(4)]
    odd = ['{"text": "x", "label": NaN}', '{"text": "half \\ud83d", "label": 1}']
    found = read(write(tmp_path / "t.jsonl", *rows, *odd), kind="thumbs")
    assert found.dropped == {"no label": 1, "not a text": 1}


def test_any_column_can_be_the_group(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": n % 2} for n in range(4)]
    assert len(read(write(tmp_path / "t.jsonl", *rows), kind="thumbs", columns={"group": "text"}).rows) == 4


def test_words_as_labels(tmp_path: Path) -> None:
    rows = [{"query": f"q{n}", "answer": "x", "wrong": "no" if n % 2 else "yes"} for n in range(30)]
    columns = {"instruction": "query", "output": "answer", "label": "wrong"}
    path = write(tmp_path / "t.jsonl", *rows)
    with pytest.raises(DataError) as error:
        read(path, kind="thumbs", columns=columns)
    assert "'yes'" in error.value.message
    assert "liked" in error.value.hint
    found = read(path, kind="thumbs", columns=columns, liked=("no",))
    assert sum(row.liked for row in found.rows if isinstance(row, Thumb)) == 15


# Pairs


def test_pairs_as_texts_with_a_task(tmp_path: Path) -> None:
    found = read(write(tmp_path / "p.jsonl", ROW | {"chosen": "a, b", "rejected": "b, a"}))
    (pair,) = found.rows
    assert isinstance(pair, Pair)
    assert pair.chosen.task is not None
    assert (pair.chosen.task.instruction, pair.chosen.output, pair.rejected.output) == ("Sort.", "a, b", "b, a")


def test_pairs_as_transcripts_are_read_as_prompt_and_reply(tmp_path: Path) -> None:
    begun = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: A joke?\n\nAssistant:"
    rows = [
        {"chosen": f"{begun} Knock knock.", "rejected": f"{begun} No."},
        {"chosen": "\n\nHuman: Why?\n\nAssistant: Because.", "rejected": "\n\nHuman: Why?\n\nAssistant: Dunno."},
    ]
    long, short = read(write(tmp_path / "hh.jsonl", *rows)).rows
    assert isinstance(long, Pair)
    assert isinstance(short, Pair)
    assert long.chosen.task is not None
    assert long.chosen.task.instruction == "Human: Hi\n\nAssistant: Hello.\n\nHuman: A joke?"
    assert (long.chosen.output, long.rejected.output, long.prompt) == ("Knock knock.", "No.", "hi")
    assert short.chosen.task is not None
    assert short.chosen.task.instruction == "Why?"


def test_pairs_as_messages(tmp_path: Path) -> None:
    def said(*turns: str) -> list[dict[str, str]]:
        return [{"role": "user" if place % 2 == 0 else "assistant", "content": one} for place, one in enumerate(turns)]

    rows = [
        {"chosen": said("Why?", "Because."), "rejected": said("Why?", "Dunno.")},
        {"prompt": said("Why?"), "chosen": said("x", "Since.")[1:], "rejected": said("x", "Eh.")[1:]},
        {"prompt": "Why?", "chosen": "For.", "rejected": "Ah."},
    ]
    found = [read(write(tmp_path / f"{place}.jsonl", row)) for place, row in enumerate(rows)]
    assert [outputs(one)[0] for one in found] == [("Because.", "Dunno."), ("Since.", "Eh."), ("For.", "Ah.")]
    assert {row.chosen.task.instruction for one in found for row in one.rows if isinstance(row, Pair) and row.chosen.task} == {
        "Why?"
    }


@pytest.mark.parametrize(
    ("preferred", "expected"), [(1, ("x", "y")), ("2", ("y", "x")), ("model_b", ("y", "x")), (2.0, ("y", "x"))]
)
def test_pairs_as_two_outputs_and_a_preference(preferred: object, expected: tuple[str, str], tmp_path: Path) -> None:
    row = {"instruction": "i", "output_1": "x", "output_2": "y", "label": preferred}
    assert outputs(read(write(tmp_path / "p.jsonl", row))) == [expected]


def test_rankings_become_all_their_pairs(tmp_path: Path) -> None:
    row = ROW | {"outputs": ["best", "good", "bad"]}
    assert outputs(read(write(tmp_path / "r.jsonl", row), kind="rankings")) == [
        ("best", "good"),
        ("best", "bad"),
        ("good", "bad"),
    ]
    tied = read(write(tmp_path / "t.jsonl", row | {"ranks": [2, 1, 2]}), kind="rankings")
    assert (outputs(tied), tied.dropped) == ([("good", "best"), ("good", "bad")], {"tie": 1})


def test_ratings_become_pairs_beyond_the_margin(tmp_path: Path) -> None:
    row = ROW | {"outputs": ["a", "b", "c"], "ratings": [4, 4.5, 1]}
    found = read(write(tmp_path / "r.jsonl", row), kind="ratings", margin=1)
    assert (outputs(found), found.dropped) == ([("a", "c"), ("b", "c")], {"tie": 1})
    rows = [
        ROW | {"output": "a", "helpfulness": 1},
        ROW | {"output": "b", "helpfulness": 3},
        {"instruction": "x", "output": "c", "helpfulness": 0},
    ]
    found = read(write(tmp_path / "s.jsonl", *rows), kind="ratings", columns={"rating": "helpfulness"})
    assert (outputs(found), found.dropped) == ([("b", "a")], {"only output of its task": 1})


# What is dropped, and what is refused


def test_what_cannot_be_used_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        ROW | {"chosen": "x", "rejected": "y"},
        ROW | {"chosen": "x", "rejected": "y"},
        ROW | {"chosen": "x", "rejected": "x"},
        ROW | {"chosen": " ", "rejected": "y"},
        ROW | {"chosen": "x"},
        ROW | {"chosen": True, "rejected": "y"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "rejected": "\n\nHuman: a\n\nAssistant: b", "instruction": None},
    ]
    assert read(write(tmp_path / "p.jsonl", *rows)).dropped == {"duplicate": 1, "tie": 1, "empty": 3, "not a text": 1}


@pytest.mark.parametrize(
    ("rows", "settings", "quoted", "hint"),
    [
        (["{broken"], {}, ("line 1", "{broken"), ""),
        (["[1]"], {}, ("line 1", "[1]"), ""),
        ([ROW], {}, ("'chosen'", "instruction, input, constraints"), "columns"),
        ([ROW], {"kind": "thumbs"}, ("'output'", "'text'"), "columns"),
        ([ROW], {"columns": {"chosen": "better"}}, ("'better'", "columns.chosen", "instruction"), "columns"),
        ([ROW | {"output": "x", "label": "good"}], {"kind": "thumbs"}, ("line 1", "'good'"), "liked"),
        ([ROW | {"chosen": "x", "rejected": "y", "split": "tset"}], {}, ("line 1", "'tset'"), "train, validation, test"),
        ([ROW | {"first": "x", "second": "y", "preferred": "3"}], {}, ("line 1", "'3'"), "1, 2"),
        ([ROW | {"chosen": "x", "rejected": "x"}], {}, ("1 rows", "1 tie"), "columns"),
        ([ROW | {"outputs": "x"}], {"kind": "rankings"}, ("line 1", "'outputs'", "list", "'x'"), "row"),
        ([ROW | {"outputs": ["x", "y"], "ranks": [1]}], {"kind": "rankings"}, ("line 1", "2 outputs", "1 ranks"), "one"),
        (
            [ROW | {"outputs": ["x", "y"], "ratings": [1, "a"]}],
            {"kind": "ratings"},
            ("line 1", "rating", "number", "'a'"),
            "row",
        ),
    ],
)
def test_data_that_makes_no_sense_is_refused_in_one_line(
    rows: list[object], settings: dict[str, Any], quoted: tuple[str, ...], hint: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        read(write(tmp_path / "data.jsonl", *rows), **settings)
    assert all(part in error.value.message for part in quoted)
    assert hint in error.value.hint
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "quoted"),
    [
        ("d.txt", b"x", "d.txt"),
        ("d.jsonl", b"", "d.jsonl"),
        ("d.jsonl.gz", b"not gzip", "d.jsonl.gz"),
        ("d.parquet", b"not parquet", "d.parquet"),
        ("d.csv", b"chosen,rejected\na\n", "d.csv line 2"),
        ("d.json", b'[{"a": 1', "d.json"),
        ("nothing.jsonl", None, "nothing.jsonl"),
        ("empty/", None, "empty"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_one_line(
    name: str, content: bytes | None, quoted: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert quoted in error.value.message
    assert "\n" not in str(error.value)


# Splits


def pairs_on(prompts: range, split: str | None = None) -> list[dict[str, Any]]:
    named = {"split": split} if split else {}
    return [ROW | {"input": str(n), "chosen": f"c{k}", "rejected": "r"} | named for n in prompts for k in range(3)]


def test_rows_of_one_prompt_share_a_split(tmp_path: Path) -> None:
    splits: dict[str, set[Any]] = {}
    for row in read(write(tmp_path / "pairs.jsonl", *pairs_on(range(60)))).rows:
        splits.setdefault(row.prompt, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == set(Split)


def test_rows_of_one_group_share_a_split(tmp_path: Path) -> None:
    rows = [{"text": f"a\n{n}", "label": n % 2, "bot_id": n // 10} for n in range(400)]
    found = read(write(tmp_path / "t.jsonl", *rows), kind="thumbs", columns={"group": "bot_id"})
    splits: dict[str, set[Any]] = {}
    for row in found.rows:
        splits.setdefault(row.prompt, set()).add(row.split)
    assert len(splits) == 40
    assert all(len(one) == 1 for one in splits.values())


def test_a_source_with_train_and_test_keeps_its_test(tmp_path: Path) -> None:
    write(tmp_path / "hh/train.jsonl", *pairs_on(range(100)))
    write(tmp_path / "hh/test.jsonl", *pairs_on(range(100, 110)))
    found = read(tmp_path / "hh")
    assert {row.prompt.rpartition("\x1f")[2] for row in found.of(Split.TEST)} == {str(n) for n in range(100, 110)}
    assert found.of(Split.VALIDATION)


def test_a_prompt_that_one_set_tests_on_is_in_no_other_sets_training(tmp_path: Path) -> None:
    rows = [*pairs_on(range(20), "train"), *pairs_on(range(20, 25), "validation"), *pairs_on(range(25, 30), "test")]
    one = read(write(tmp_path / "one.jsonl", *rows))
    rows = [*pairs_on(range(10, 40), "train"), *pairs_on(range(40, 45), "validation"), *pairs_on(range(45, 50), "test")]
    other = read(write(tmp_path / "other.jsonl", *rows))
    separated = separate({"one": one, "other": other})
    assert separated["one"].dropped == {}
    assert separated["other"].dropped == {"prompt held out": 30}
    assert {row.prompt for row in separated["other"].of(Split.TRAIN)}.isdisjoint(
        row.prompt for split in (Split.VALIDATION, Split.TEST) for row in one.of(split)
    )


def test_a_set_without_a_split_or_with_one_kind_of_label_is_refused(tmp_path: Path) -> None:
    only = read(write(tmp_path / "p.jsonl", *pairs_on(range(3), "train")))
    with pytest.raises(DataError) as error:
        separate({"only": only})
    assert "validation" in error.value.message
    rows = [ROW | {"input": str(n), "output": "x", "label": 1} for n in range(60)]
    with pytest.raises(DataError) as error:
        separate({"likes": read(write(tmp_path / "t.jsonl", *rows), kind="thumbs")})
    assert "train split are likes" in error.value.message


# Pairs out of thumbs


def test_thumbs_of_a_group_are_paired_once_each(tmp_path: Path) -> None:
    rows = [
        {"text": f"bot {bot} says {n}", "label": int(n < likes), "bot_id": bot}
        for bot, likes in (("a", 2), ("b", 5), ("c", 0))
        for n in range(5)
    ]
    path = write(tmp_path / "t.jsonl", *rows)
    made = list(group_into_pairs(read(path, kind="thumbs", columns={"group": "bot_id"})))
    assert [row["group"] for row in made] == ["a", "a"]
    assert len({text for row in made for text in (row["chosen"], row["rejected"])}) == 4
    assert all(int(row["chosen"][-1]) < 2 <= int(row["rejected"][-1]) for row in made)
    assert made == list(group_into_pairs(read(path, kind="thumbs", columns={"group": "bot_id"})))
    again = read(write(tmp_path / "pairs.jsonl", *made))
    assert {row.prompt for row in again.rows} == {"group\x1fa"}


def test_paired_thumbs_keep_their_own_tasks(tmp_path: Path) -> None:
    rows = [{"instruction": f"ask {n}", "output": f"say {n}", "label": n % 2, "bot": 1} for n in range(2)]
    made = list(group_into_pairs(read(write(tmp_path / "t.jsonl", *rows), kind="thumbs", columns={"group": "bot"})))
    (pair,) = read(write(tmp_path / "p.jsonl", *made)).rows
    assert isinstance(pair, Pair)
    assert [answer.task.instruction for answer in pair.answers if answer.task] == ["ask 1", "ask 0"]


# Real data


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real preference data at {SHARED}")
@pytest.mark.parametrize(
    ("name", "settings", "rows", "dropped"),
    [
        ("preference/hh_harmless_base.train.jsonl.gz", {}, 1852, {"empty": 2}),
        ("preference/llmbar_and_mtbench_human.jsonl.gz", {"columns": {"instruction": "input"}}, 614, {"duplicate": 5}),
        (
            "preference/pandalm_testset_v1.jsonl.gz", {"columns": {"preferred": "annotator1"}}, 766,
            {"duplicate": 77, "empty": 53, "tie": 97, "not a text": 6},
        ),
        (
            "labels/halueval_general.jsonl.gz",
            {"kind": "thumbs", "liked": ("no",)}
            | {"columns": {"instruction": "user_query", "output": "chatgpt_response", "label": "hallucination"}},
            4507, {},
        ),
    ],
)  # fmt: skip
def test_real_sets_are_read_without_preparation(
    name: str, settings: dict[str, Any], rows: int, dropped: dict[str, int]
) -> None:
    found = read(SHARED / name, **settings)
    assert (len(found.rows), found.dropped) == (rows, dropped)
    assert all(found.of(split) for split in Split)
