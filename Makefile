# make train: from a fresh clone to a trained flow.   make train ARGS="flow=glow data=mnist"
# make test: under ten minutes.   make test SLOW=1: with the long storms
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?= experiment=realnvp_digits

.PHONY: install train test lint clean

install: $(VENV)/installed

train: install
	$(BIN)/laminar-train $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/ruff check src tests scripts
	$(BIN)/ruff format --check src tests scripts
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(SLOW),--slow)

lint: $(VENV)/installed-test
	$(BIN)/ruff check --fix src tests scripts
	$(BIN)/ruff format src tests scripts

clean:
	rm -rf $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@
