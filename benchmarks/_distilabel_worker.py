"""One run of a distilabel pipeline in its own environment: reads prompts from a JSON file, writes times to another.

    .venv-distilabel/bin/python benchmarks/_distilabel_worker.py ASKED TOLD

Its user is `distilabel_answers.py`. The clock of generation starts when the model is loaded and the first prompts are
there, and stops with the last text: start and end of the pipeline's processes are told apart.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distilabel.models.llms import TransformersLLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

CLOCK = "FLYWHEEL_BENCHMARK_CLOCK"
"""Names the file of times: steps run in processes of their own."""


class Clocked(TransformersLLM):  # type: ignore[misc]
    """distilabel's own, with a note of when it begins and ends a batch."""

    prompts_at_once: int | None = None
    """Prompts that its transformers pipeline runs at once; distilabel has no setting for it, so one at a time."""

    def load(self) -> None:
        super().load()
        if self.prompts_at_once:
            self._pipeline._batch_size = self.prompts_at_once
            self._pipeline.tokenizer.padding_side = "left"

    def generate_outputs(self, inputs: Any, num_generations: int = 1, **kwargs: Any) -> Any:
        started = time.monotonic()
        outputs = super().generate_outputs(inputs, num_generations, **kwargs)
        with open(os.environ[CLOCK], "a", encoding="utf-8") as file:
            file.write(f"{started} {time.monotonic()}\n")
        return outputs


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "clock"
        os.environ[CLOCK] = str(clock)
        began = time.monotonic()
        with Pipeline(name="answers", cache_dir=folder) as pipeline:
            tasks = LoadDataFromDicts(data=[{"instruction": prompt} for prompt in asked["prompts"]])
            answers = TextGeneration(
                llm=Clocked(
                    model=asked["model"],
                    torch_dtype="float32",
                    prompts_at_once=asked["prompts_at_once"],
                    generation_kwargs={
                        "max_new_tokens": asked["max_tokens"],
                        "temperature": 1.0,
                        "top_p": 1.0,
                        "repetition_penalty": 1.0,
                    },
                ),
                num_generations=asked["n"],
                group_generations=True,
            )
            tasks >> answers
        rows = pipeline.run(use_cache=False)["default"]["train"].to_list()
        whole = time.monotonic() - began
        times = [tuple(map(float, line.split())) for line in clock.read_text(encoding="utf-8").splitlines()]
    sent = [row["distilabel_metadata"][0]["raw_input_text_generation_0"][0]["content"] for row in rows]
    if sorted(sent) != sorted(asked["prompts"]):
        sys.exit("distilabel did not send the prompts as they are")
    told = {
        "candidates": sum(len(row["generation"]) for row in rows),
        "generating_s": max(end for _, end in times) - min(start for start, _ in times),
        "whole_s": whole,
        "example": rows[0]["generation"],
    }
    Path(sys.argv[2]).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
