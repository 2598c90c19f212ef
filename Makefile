# demo and test need Python 3.11 or newer and nothing else; each makes its own environment.
PYTHON ?= python3
PIP := -m pip install --quiet --disable-pip-version-check --upgrade

.PHONY: demo test dev lint types docs clean

demo: .venv-demo/.done
	.venv-demo/bin/python -m example_project.demo $(ARGS)

# On a laptop: current Python, newest Celery. With CI=true: the whole grid of tox.ini.
test: .venv-tox/.done
	.venv-tox/bin/tox run $(if $(filter true,$(CI)),-m ci,-m laptop)

dev: .venv/.done

# What CI looks at besides the tests; and the documentation, whose every block, path and name is tested.
lint: .venv/.done
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/codespell
	.venv/bin/lint-imports

types: .venv/.done
	.venv/bin/mypy

docs: .venv/.done
	.venv/bin/pytest -q tests/docs

.venv-demo/.done: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) "pip>=25.1"
	.venv-demo/bin/python $(PIP) --editable ".[server,gateway]" --group demo
	touch $@

.venv-tox/.done: pyproject.toml
	$(PYTHON) -m venv .venv-tox
	.venv-tox/bin/python $(PIP) "tox>=4.22" "tox-uv>=1.23"
	touch $@

.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) "pip>=25.1"
	.venv/bin/python $(PIP) --editable ".[server,gateway,l8]" --group dev
	.venv/bin/python $(PIP) --no-deps ezthrottle  # EZThrottle's own SDK, for tests; it pins old versions of packages
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-tox .tox
