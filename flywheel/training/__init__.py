"""Training: the generator is fine-tuned on the winners with trl, and on proposals so that it can still propose."""

from flywheel.training.examples import Example, training_examples
from flywheel.training.job import Job
from flywheel.training.train import check_training, train_generator

__all__ = ["Example", "Job", "check_training", "train_generator", "training_examples"]
