# Run in an environment made by the second command of README.md (or put its bin/ on the PATH).
PYTHON ?= .venv/bin/python
PACKAGES = engine indexer server cluster bench scorefind.py scorefind_options.py scorefind_segment.py

.PHONY: test lint mutants bench

test:
	$(PYTHON) -m pytest -q -n 2 --dist loadfile

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy --strict $(PACKAGES)

# Applies the faults of tests/mutants.toml one at a time, and fails if the tests do not notice one of them.
mutants:
	$(PYTHON) tests/mutants.py

# Each question of bench/ is a program with its own --help; those that need data name it.
bench:
	@for file in bench/[a-z]*.py; do echo "$(PYTHON) -m bench.$$(basename $$file .py) --help"; done
