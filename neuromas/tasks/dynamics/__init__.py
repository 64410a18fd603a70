"""The dynamics task: formulas of the rates of change of a system, read, fitted and scored."""
