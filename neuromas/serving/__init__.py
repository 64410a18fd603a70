"""Answers questions with a trained graph: the dataflow and the engine of training, behind a queue."""
