"""The verbs of a researcher, one function each, for Python and the command line."""
