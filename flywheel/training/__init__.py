"""Train: the generator is fine-tuned on the winners with trl, and keeps its skill to propose."""

from flywheel.training.check import check_training
from flywheel.training.examples import Example, training_examples
from flywheel.training.train import train_generator

__all__ = ["Example", "check_training", "train_generator", "training_examples"]
