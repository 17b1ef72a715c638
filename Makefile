# A fresh machine has Python 3.11 or newer, a C++20 compiler and make. Everything else is installed into .venv.
#
#   make serve   make test   make check   make bench   make simulate   make gpu

PYTHON ?= python3
PORT   ?= 8000
ARGS   ?=
# Without a GPU, `TORCH_INDEX=https://download.pytorch.org/whl/cpu` spares a download of some gigabytes.
TORCH_INDEX ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
        $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
NATIVE := setup.py $(shell find csrc aruntime kernels \( -name '*.hpp' -o -name '*.pyx' -o -name '*.pxd' \
          -o -path 'csrc/*.cpp' \))

.PHONY: serve test check format bench simulate gpu build clean

serve: build
	$(BIN)/aruntime serve --port $(PORT) $(ARGS)

test: build $(VENV)/test.stamp
	$(BIN)/python -m pytest $(ARGS)

check: build $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_tidy.py

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: build $(VENV)/test.stamp
	$(BIN)/python bench/quick.py $(ARGS)

simulate: build $(VENV)/bench.stamp
	$(BIN)/python bench/simulate/run.py $(ARGS)

# On the GPU machine itself, with its own torch and triton: no virtual environment.
gpu:
	$(PYTHON) setup.py -q build_ext --inplace
	PYTHONPATH=.:kernels $(PYTHON) bench/gpu/run.py $(ARGS)

build: $(VENV)/build.stamp

# Dependencies first: a changed header must not make pip look at the network again.
$(VENV)/core.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) 'pip>=25.1' 'setuptools>=77' 'cython>=3.1,<4'
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/build.stamp: $(VENV)/core.stamp $(NATIVE)
	$(BIN)/python setup.py -q build_ext --inplace
	touch $@

$(VENV)/test.stamp: $(VENV)/core.stamp
	$(PIP) --group test
	touch $@

$(VENV)/bench.stamp: $(VENV)/core.stamp
	$(PIP) --group bench
	touch $@

clean:
	rm -rf build $(VENV)
	find aruntime kernels -name '*.so' -delete
