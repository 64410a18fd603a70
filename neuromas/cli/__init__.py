"""The command line. Parsing loads no torch, Ray or vLLM; each command imports what it needs when it runs."""
