"""What is asked about runs: arms, comparisons, influence."""
