"""Tasks: streams of questions with a rule that scores an answer."""
