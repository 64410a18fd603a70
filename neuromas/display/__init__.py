"""What people see while something runs: lines in a terminal, a log or a notebook."""
