# Atoll. `make` lists the targets; each sets up what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# PYTHON=/path/to/python3 names another one.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
# Asked of each, because a name on the PATH may be a shim that starts nothing, and Debian's python3 may lack venv.
FITS := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
VENV := .venv
RUN := $(VENV)/bin/python -P
# The repository root is never an import root: operator/ would be taken for the standard library's module.
export PYTHONSAFEPATH := 1
export TF_CPP_MIN_LOG_LEVEL := 2

PIP_FLAGS := --disable-pip-version-check --no-input

SOURCES := operator/src images/src images/builder edge/src tests
STAMP := $(VENV)/.set-up
DEMO := build/demo
EDGE := build/edge
# The builder needs no package: on a Pi that makes one image, the packages of the tests would be in the way.
BUILDER_PYTHON = $(shell for python in $(VENV)/bin/python $(PYTHONS); do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
BUILDER = PYTHONPATH=images/src $(or $(BUILDER_PYTHON),$(error \
  the images need Python 3.11 or newer; none of these is one: $(PYTHONS). Name another with PYTHON=/path/to/python3)) \
  -P images/builder
IMAGE_FLAGS = $(if $(ENGINE),--engine $(ENGINE)) $(if $(REGISTRY),--registry $(REGISTRY))

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

$(STAMP): tests/requirements.txt pyproject.toml
	@echo "Setting up $(VENV): 550 MB to fetch, 2.2 GB on disk, two to eight minutes, once"
	@test -x $(VENV)/bin/python || { \
	  for python in $(PYTHONS); do \
	    if "$$python" -c '$(FITS)' 2>/dev/null; then exec "$$python" -m venv $(VENV); fi; \
	  done; \
	  echo "Atoll needs Python 3.11, 3.12 or 3.13 with its venv module; none of these is one: $(PYTHONS)." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3-venv), or call make with PYTHON=/path/to/python3." >&2; \
	  exit 1; }
	@echo "1/2 downloads and installs what tests/requirements.txt locks"
	@if [ -t 1 ]; then while sleep 5; do du -sh $(VENV); done & trap "kill $$!" EXIT; fi; \
	  $(VENV)/bin/python -m pip install $(PIP_FLAGS) $(if $(wildcard $(STAMP)),--quiet) --require-hashes -r tests/requirements.txt
	@echo "2/2 installs Atoll itself"
	@$(VENV)/bin/python -m pip install $(PIP_FLAGS) --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Make .venv with everything that is locked

.PHONY: demo
demo: setup ## Train a detector on the sample pictures, on this machine, without a cluster
	@rm -rf $(DEMO)
	@echo "The sample is a playing field, rendered on this machine, whose detector learns in minutes. Real pictures are harder: docs/accuracy.md."
	@$(VENV)/bin/atoll sample field --to $(DEMO)/sample
	@$(VENV)/bin/atoll run -f crds/samples/trainingrun-field.yaml --data $(DEMO)/sample/field.tar \
	  --store $(DEMO)/store --to $(DEMO)
	@echo "Next: open $(DEMO)/report.html, then 'make edge-demo'. For your own pictures see README.md."

.PHONY: edge-demo
edge-demo: setup ## Run the demo's model as the Pi would: NetworkTables, MJPEG, status page; KEEP=1 goes on until Ctrl-C
	@test -f $(DEMO)/model.tar.gz || $(MAKE) demo
	@$(RUN) -m atoll_edge.demo --bundle $(DEMO)/model.tar.gz --pictures $(DEMO)/sample/field.tar $(if $(KEEP),--keep)

.PHONY: check
check: setup ## Lint, format, types and dead code
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy $(SOURCES)
	@$(VENV)/bin/vulture

.PHONY: test
test: setup binaries ## Every test but those that take minutes, need a node or measure
	@$(RUN) -m pytest -m "not slow and not e2e"

.PHONY: test-edge-lock
test-edge-lock: setup ## The edge's tests on an installation by install.sh: Python 3.11 (numpy<2), and 3.13 where it is there
	@PYTHONPATH=tests $(RUN) -m support.edge_install $(EDGE) 3.11
	@$(EDGE)/device/opt/atoll-edge/bin/python -P -m pytest -rs -m "not api and not e2e" tests/unit/edge_*
	@if PYTHONPATH=tests $(RUN) -m support.interpreters 3.13 >/dev/null; then \
	  PYTHONPATH=tests $(RUN) -m support.edge_install $(EDGE)-py313 3.13 \
	  && $(EDGE)-py313/device/opt/atoll-edge/bin/python -P -m pytest -rs -m "not api and not e2e and not slow" tests/unit/edge_*; \
	else echo "NOT RUN: the edge's tests on Python 3.13, which is not installed here"; fi

.PHONY: test-slow
test-slow: setup binaries ## The tests that take minutes: crash points, many publishers, flat memory
	@$(RUN) -m pytest -m "slow and not e2e" --timeout 1800

.PHONY: test-exports
test-exports: setup ## Data sets by datumaro, labelformat, supervision, Label Studio and Supervisely, read back (1 GB of packages)
	@$(RUN) -m pytest -m exports tests/exports

.PHONY: test-targets
test-targets: setup ## The sample compiled and run in Rockchip's and Qualcomm's simulators, and its file in MediaPipe (1 GB of packages; minutes)
	@$(RUN) -m pytest -s -m targets tests/targets

.PHONY: test-cosign
test-cosign: setup ## A release's provenance, verified by cosign, which is built once (minutes); make test runs it from then on
	@PYTHONPATH=tests $(RUN) -m cluster.binaries cosign
	@$(RUN) -m pytest -rs tests/unit/stages_publish/test_cosign.py

.PHONY: test-kueue
test-kueue: setup ## Runs in a queue of the real Kueue, which is built from its Go module the first time (minutes)
	@$(RUN) -m pytest -m kueue tests/kueue

.PHONY: test-quick
test-quick: setup ## The tests that need nothing but Python
	@$(RUN) -m pytest -m "not api and not slow and not e2e"

.PHONY: binaries
binaries: setup ## Build etcd, kube-apiserver, kube-controller-manager, MinIO, VersityGW, Helm, actionlint and a Lua for the tests, once
	@PYTHONPATH=tests $(RUN) -m cluster.binaries minio versitygw etcd kube-apiserver kube-controller-manager helm4 actionlint glua

.PHONY: bench
# harvest_loop.py trains for an hour, on a data set that is named to it; sweep_budget.py trains 24 detectors.
BENCHES = $(filter-out tests/bench/harvest_loop.py tests/bench/sweep_budget.py,$(wildcard tests/bench/*.py))
bench: setup ## The benchmarks, as ratios against a peer in the same run
	@test -f $(DEMO)/model.tar.gz || $(MAKE) demo
	@missed=0; for bench in $(BENCHES); do echo "== $$bench"; PYTHONPATH=tests $(RUN) $$bench || missed=1; done; exit $$missed

.PHONY: images
images: ## Build the images: REGISTRY= (pushes) ARCH= BASE= WEIGHTS=FILE EXTERNAL="NAME[=FILE] …" TARGETS="rknn qnn" IMAGES="NAME …" ENGINE=
	@$(BUILDER) build $(IMAGE_FLAGS) $(if $(ARCH),--arch $(ARCH)) $(if $(BASE),--base $(BASE)) \
	  $(if $(REGISTRY),--push) $(EXTERNAL:%=--external %) $(TARGETS:%=--compiler %) $(WEIGHTS:%=--external imagenet-weights=%) $(IMAGES)

.PHONY: pin
pin: ## Ask a registry for the digest of the images' base, for images/base.lock: TOOL=skopeo, docker or podman
	@$(BUILDER) pin $(if $(TOOL),--tool $(TOOL))

.PHONY: load
load: ## Import what was built last into a cluster without a registry: TARGET=k3s or TARGET=kind IMAGES="NAME …"
	@$(BUILDER) load $(IMAGE_FLAGS) --target $(TARGET) $(IMAGES)

.PHONY: k3s-manifests
k3s-manifests: ## A folder to lay over k3s's, chart and images in it: CHART=atoll-edge VALUES="FILE …" IMAGES=none
	@$(BUILDER) k3s-manifests $(IMAGE_FLAGS) $(if $(CHART),--chart $(CHART)) $(VALUES:%=--values %) $(IMAGES)

.PHONY: release
release: setup ## Build wheel, charts, SBOM, images and checksums into build/release: IMAGES="NAME …", IMAGES=none
	@IMAGES="$(IMAGES)" .ci/release

.PHONY: audit
audit: ## Ask the package index for known vulnerabilities of every version that is locked (needs a network)
	@.ci/audit

.PHONY: charts
charts: setup ## Write the generated parts of the charts anew
	@PYTHONPATH=tests $(RUN) -m support.charts

# NAME=… means another cluster beside the one without a name.
CLUSTER = $(if $(NAME),ATOLL_TEST_CLUSTER=$(NAME))

.PHONY: cluster-up
cluster-up: setup ## Start a one-node Kubernetes in a network namespace of its own (root): NAME= for several
	@$(CLUSTER) PYTHONPATH=tests $(RUN) -m cluster.node up

.PHONY: cluster-down
cluster-down: setup ## Stop it and remove what it made: NAME=
	@$(CLUSTER) PYTHONPATH=tests $(RUN) -m cluster.node down

# What is built and started for all tests of a session is of no one test's time.
E2E_FLAGS := -o timeout_func_only=true

.PHONY: e2e
e2e: setup ## One small run on that cluster, from helm install to the published bundle (root; 15 minutes): NAME=
	@$(CLUSTER) $(RUN) -m pytest -m "e2e and not slow" -s $(E2E_FLAGS) --timeout 1800 tests/e2e

.PHONY: e2e-full
e2e-full: setup ## And README word for word, Helm 3, arm64, a queue, outages, kills (root; half an hour): NAME=
	@$(CLUSTER) $(RUN) -m pytest -m "e2e and not card and not targets" -s $(E2E_FLAGS) --timeout 5400 tests/e2e

.PHONY: e2e-card
e2e-card: setup ## On a node with a Pi's small disk and a kubelet that minds it: full card, pruned images, power cuts (root)
	@ATOLL_TEST_CLUSTER=card ATOLL_TEST_CARD_GB=8 $(RUN) -m pytest -m card -s $(E2E_FLAGS) --timeout 1800 tests/e2e

.PHONY: e2e-targets
e2e-targets: setup ## Rockchip's and Qualcomm's compilers in pods of that cluster (root; 2 GB of images; a quarter of an hour): NAME=
	@$(CLUSTER) $(RUN) -m pytest -m "e2e and targets" -s $(E2E_FLAGS) --timeout 5400 tests/e2e/test_targets.py

.PHONY: golden
golden: setup binaries ## Write the golden manifests and rights anew; read the diff before you commit it
	@ATOLL_GOLDEN=write $(RUN) -m pytest -q tests/golden tests/unit/operator_jobs tests/api/test_chart_rights.py tests/unit/test_frozen.py

.PHONY: docs
docs: setup ## Write the generated pages anew
	@$(RUN) -m atoll_operator.api.reference > docs/api.md
	@PYTHONPATH=tests $(RUN) -m support.architecture_drawing
	@PYTHONPATH=tests $(RUN) -m support.runtime_drawing
	@PYTHONPATH=tests $(RUN) -m support.warning_table
	@PYTHONPATH=tests $(RUN) -m support.reach_table

DOCS_VENV := build/docs-venv
$(DOCS_VENV)/.set-up: docs/site/requirements.txt | setup
	@$(VENV)/bin/python -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: docs-site
docs-site: $(DOCS_VENV)/.set-up ## Build the documentation site into build/docs-site; a dead link fails it
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo "Look at it: $(DOCS_VENV)/bin/mkdocs serve"

.PHONY: walkthrough
walkthrough: setup ## Walk docs/walkthrough.md and write its outputs and pictures anew (Chromium; half an hour)
	@PYTHONPATH=tests $(RUN) -m walkthrough

.PHONY: lock
lock: ## Lock the dependencies anew (needs uv)
	@.ci/lock

.PHONY: clean
clean: ## Remove what was built here, but not .venv
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
