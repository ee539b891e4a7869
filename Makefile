.PHONY: check test

check:  ## everything that is not a test
	ruff check .
	ruff format --check .
	mypy

test:
	python -m pytest
