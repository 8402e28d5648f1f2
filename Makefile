# `make demo` and `make test` are the two commands; both make the environments first.
PYTHON ?= python3
ENGINE_PYTHON = .venv/engine/bin/python

.PHONY: demo test lint docs envs clean

demo: envs
	$(ENGINE_PYTHON) scripts/demo.py $(DEMO_ARGS)

test: envs
	$(ENGINE_PYTHON) scripts/run_tests.py $(TEST_ARGS)

lint: envs
	$(ENGINE_PYTHON) scripts/run_tests.py --only lint

docs: envs
	$(ENGINE_PYTHON) -m sphinx -q -W --keep-going -b html docs build/docs

envs:
	@$(PYTHON) scripts/bootstrap.py

clean:
	rm -rf .venv .scipion demo build dist scipion_em_vaegan.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
