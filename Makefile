# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test gallery setup clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

test: setup
	$(BIN)/python -m pytest -n auto

demo: setup
	$(BIN)/crate-compile specs/crate_mae.crate --preset digits -o demo/model.py --summary
	$(BIN)/crate-compile specs/crate_mae.crate --preset digits --check
	$(BIN)/python -m runtime.train specs/crate_mae.crate --out demo/run
	$(BIN)/python -m runtime.evaluate demo/run
	@echo "The reconstruction is in demo/run/pictures, the compiled network in demo/model.py."

gallery: setup
	$(BIN)/python -m runtime.gallery

clean:
	rm -rf .venv demo build *.egg-info
