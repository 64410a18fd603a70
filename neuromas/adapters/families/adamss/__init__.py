"""AdaMSS: updates inside the subspaces that the rows of each weight fall into."""
