# `make demo` and `make test` set up what they need in .venv; the stamps make the second time fast.
PYTHON ?= python3
VENV ?= .venv
# A half-made .venv is removed: Debian splits venv off python3, and its error names the package to install.

.PHONY: demo test test-all benchmark soak space clean

demo: $(VENV)/run.stamp
	$(VENV)/bin/python app.py

test: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal

test-all: test
	$(VENV)/bin/python -m pytest -m slow

benchmark: $(VENV)/dev.stamp
	$(VENV)/bin/python -m eval study speed --run

soak: $(VENV)/dev.stamp
	$(VENV)/bin/python -m eval study soak --run

# make space REPO=user/name
space: $(VENV)/run.stamp
	$(VENV)/bin/python -m train.publish_space --repo "$(REPO)"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: Python 3.10 or newer is needed, set PYTHON=")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The package itself goes in too, in place: `colorize` and `import colorization` work from any folder.
$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --disable-pip-version-check --editable ".[demo]"
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(VENV)/bin/python -m pip install --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV)
