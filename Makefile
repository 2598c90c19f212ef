# demo and test need Python 3.11 or newer and nothing else; each makes its own environment.
PYTHON ?= python3
PIP := -m pip install --quiet --disable-pip-version-check --upgrade

.PHONY: demo test dev clean

demo: .venv-demo/.done
	.venv-demo/bin/python -m example_project.demo

# On a laptop: current Python, newest Celery. With CI=true: the whole grid of tox.ini.
test: .venv-tox/.done
	.venv-tox/bin/tox run $(if $(filter true,$(CI)),-m ci,-m laptop)

dev: .venv/.done

.venv-demo/.done: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) "pip>=25.1"
	.venv-demo/bin/python $(PIP) --editable ".[server,gateway]" --group demo
	touch $@

.venv-tox/.done: pyproject.toml
	$(PYTHON) -m venv .venv-tox
	.venv-tox/bin/python $(PIP) "tox>=4.22"
	touch $@

.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) "pip>=25.1"
	.venv/bin/python $(PIP) --editable ".[server,gateway]" --group dev
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-tox .tox
