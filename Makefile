# Two commands on a fresh machine: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test app lint viewer setup system chromium clean

demo: setup
	@mkdir -p output
	$(BIN)/flexavatar create examples/astronaut.png -o output/astronaut.flexavatar \
	    --export output/astronaut.ply --export output/astronaut.png --export output/astronaut.mp4
	@echo && echo "Your avatar and its files:" && ls -lh $(CURDIR)/output/astronaut.*

app: setup
	$(BIN)/python app.py

# One thread for each process of tests: numpy's BLAS reads the variable before any of our code runs.
test: setup $(VENV)/.dev chromium lint
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

lint: setup $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

# The browser viewer's build, which is committed: the same sources and versions give the same bytes. Needs Node 20.
viewer:
	cd flexavatar/viewer && npm ci --no-audit --no-fund && npm run build

setup: system $(VENV)/.base

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# The extras too, since their tests would be skipped without them.
$(VENV)/.dev: requirements-dev.txt requirements-dino.txt requirements-perceptual.txt requirements-train.txt $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    -r requirements-dev.txt -r requirements-dino.txt -r requirements-perceptual.txt -r requirements-train.txt
	@touch $@

# The shared libraries of packages.txt (a Space installs the same file), where this is a Debian or Ubuntu machine.
system:
	@./scripts/apt_install.sh $$(cat packages.txt)

# The browser test drives Chromium; without one it is skipped, and in CI it fails.
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || ./scripts/apt_install.sh chromium

clean:
	rm -rf output build *.egg-info .pytest_cache .ruff_cache
