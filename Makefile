# All that people and CI call. `make` alone lists it.
#
# A fresh clone needs only Python 3.11 or newer, and make. The virtual environment is made in .venv; the API server, etcd
# and kubectl are found, downloaded or built once and kept in the user's cache folder.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Many containers set it. Each of the many short programs of the tests would compile its modules again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(shell \
	$(p) -c 'import sys, venv; print("$(p)") if sys.version_info >= (3, 11) else None' 2>/dev/null)))
BIN := .venv/bin
PYTEST := $(BIN)/pytest

# For `make image` and `make e2e-kind`. Without KIND_BIN and KIND_IMAGE, kind and its node image are downloaded.
DOCKER ?= docker
DOCKER_BUILDKIT ?= $(shell $(DOCKER) buildx version >/dev/null 2>&1 && echo 1 || echo 0)
IMAGE ?= compass-runtime-agent:dev
MOCK_IMAGE ?= compass-runtime-agent-mock-compass:dev
TEST_IMAGE ?= compass-runtime-agent-tests:dev
IMAGE_ARGS ?= --quiet
# NAME@DIGEST instead of the tag in the Dockerfile: `make base-image` prints what the tag names at the moment.
BASE_IMAGE ?=
BASE_ARG = $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE))
IMAGE_LABELS = $(BASE_ARG) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION)
, := ,
KIND_BIN ?= $(shell command -v kind)
KIND_IMAGE ?=
SCENARIOS ?= e2e/scenarios

# Percent of lines and branches of workqueue, informers, controller and kubectl_compass that `make test` runs. It only goes up.
COVERAGE_FLOOR ?= 96

# For `make release` and `make image-multiarch`.
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
IMAGE_REPOSITORY ?= ghcr.io/example/compass-runtime-agent
PLATFORMS ?= linux/amd64,linux/arm64
# The time in archives: two builds of one commit give the same bytes.
COMMITTED = SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct 2>/dev/null || date +%s)

.PHONY: help
help: ## List these commands
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.venv/.complete: requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none found in PATH (or set PYTHON=...)" >&2; exit 1; }
	@echo "filling .venv with $$($(PYTHON) --version) and the locked packages ..."
	@[ "$$($(BIN)/python --version 2>&1)" = "$$($(PYTHON) --version)" ] || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: .venv/.complete ## Make .venv, and get or build the API server, etcd and kubectl
	@$(BIN)/python -m e2e.controlplane

.PHONY: demo
demo: setup ## The whole story on a real API server: pair, sync, change, drift, renew, reconnect
	@$(BIN)/python -m e2e.demo

.PHONY: playground
playground: setup ## The same, left running, with the kubectl commands to try
	@$(BIN)/python -m e2e.demo --playground

.PHONY: test
test: setup ## Unit and integration tests
	@$(PYTEST) tests/integration tests/unit -m "not slow" --numprocesses auto --dist loadscope --no-loadscope-reorder $(ARGS)

.PHONY: coverage
coverage: setup ## The same tests, and how much of the product's code they run; fails below the floor
	@rm -rf build/coverage
	@$(PYTEST) tests/integration tests/unit -m "not slow" --numprocesses auto --dist loadscope --no-loadscope-reorder \
		--timeout 240 --cov --cov-report= $(ARGS)
	@$(BIN)/coverage html --quiet --directory build/coverage/html
	@$(BIN)/coverage report --fail-under=$(COVERAGE_FLOOR)

# The module (a path) and the tests of it for `make mutants`.
MODULE ?= workqueue
TESTS ?= tests/unit/workqueue
MUTANTS ?=

.PHONY: mutants
mutants: build/mutmut/.complete ## Change MODULE, one place at a time, and print the share of changes that TESTS notice
	@build/mutmut/bin/python -m tests.support.mutants $(MODULE) "$(TESTS)" "$(MUTANTS)"

build/mutmut/.complete: requirements/mutants.txt
	@$(PYTHON) -m venv --clear build/mutmut
	@build/mutmut/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/mutants.txt
	@build/mutmut/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: chaos
chaos: setup ## The long tests: kills, lost events, random histories
	@$(PYTEST) tests -m slow --timeout 1800 $(ARGS)

.PHONY: test-image
test-image: ## The unit tests of the last commit with the Python and the OpenSSL of the image, in a container
	@git archive HEAD | DOCKER_BUILDKIT=$(DOCKER_BUILDKIT) $(DOCKER) build $(IMAGE_ARGS) --file tests/Dockerfile --tag $(TEST_IMAGE) -
	@$(DOCKER) run --rm --network host $(TEST_IMAGE)

.PHONY: e2e
e2e: setup ## The end-to-end suite on the local control plane
	@$(PYTEST) e2e/scenarios --timeout 300 $(ARGS)

.PHONY: image
image: ## Build the images of the agent and of the mock Compass
	@DOCKER_BUILDKIT=$(DOCKER_BUILDKIT) $(DOCKER) build $(IMAGE_ARGS) --target agent --tag $(IMAGE) $(IMAGE_LABELS) .
	@DOCKER_BUILDKIT=$(DOCKER_BUILDKIT) $(DOCKER) build $(IMAGE_ARGS) $(BASE_ARG) --target mock-compass --tag $(MOCK_IMAGE) .

.PHONY: image-multiarch
image-multiarch: ## Build the agent's image for each of PLATFORMS, with SBOM and provenance, into build/image.oci.tar
	@mkdir -p build
	@$(DOCKER) buildx build --platform $(PLATFORMS) --sbom=true --provenance=mode=max --target agent $(IMAGE_LABELS) \
		--tag $(IMAGE) --output type=oci$(,)dest=build/image.oci.tar .

.PHONY: base-image
base-image: ## Print the base image of the Dockerfile with its digest
	@name=$$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile) && \
		echo "$$name@$$($(DOCKER) buildx imagetools inspect "$$name" --format '{{.Manifest.Digest}}')"

.PHONY: push-image
push-image: ## Push build/image.oci.tar as IMAGE, with the digests it has
	@skopeo copy --quiet --all --preserve-digests oci-archive:build/image.oci.tar docker://$(IMAGE)

.PHONY: e2e-kind
e2e-kind: setup image ## The end-to-end suite in a kind cluster: Pods, from the images
	@$(PYTEST) $(SCENARIOS) --target kind --timeout 600 --durations 5 --cluster-name compass-runtime-agent-e2e \
		--agent-image $(IMAGE) --mock-image $(MOCK_IMAGE) \
		$(if $(KIND_BIN),--kind-bin $(KIND_BIN)) $(if $(KIND_IMAGE),--kind-image $(KIND_IMAGE)) $(ARGS)

.PHONY: soak
soak: ## Half an hour of faults at random in kind (ARGS="--soak-seconds=...")
	@$(MAKE) --no-print-directory e2e-kind SCENARIOS=e2e/scenarios/soak.py ARGS="--capture=no $(ARGS)"

.PHONY: test-release
test-release: setup ## Tests of what a release consists of; get or build helm and promtool first
	@$(BIN)/python -m release.tools >/dev/null
	@$(PYTEST) tests/release $(ARGS)

.PHONY: release
release: setup ## Build what a release consists of into dist/: wheel, sdist, manifests, Helm chart, kubectl plugin, image, checksums
	@rm -rf dist
	@$(COMMITTED) $(BIN)/python -m release --version $(VERSION) --image $(IMAGE_REPOSITORY) --output dist
	@$(COMMITTED) $(BIN)/python -m hatchling build --target sdist --target wheel --directory dist
	@if $(DOCKER) info >/dev/null 2>&1; then $(MAKE) --no-print-directory release-image; \
		else echo "no Docker here: the image is left out" >&2; fi
	@cd dist && sha256sum * >SHA256SUMS && echo dist/SHA256SUMS

.PHONY: release-image
release-image: image
	@$(DOCKER) tag $(IMAGE) $(IMAGE_REPOSITORY):$(VERSION)
	@file=dist/compass-runtime-agent-image-$(VERSION)-$$($(DOCKER) image inspect --format '{{.Os}}-{{.Architecture}}' \
		$(IMAGE)).tar.gz && $(DOCKER) save $(IMAGE_REPOSITORY):$(VERSION) | gzip -9n >$$file && echo $$file

.PHONY: docs
docs: build/docs/.complete build/docs/mermaid.min.js ## Build the docs site into build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 build/docs/bin/python -m mkdocs build --strict --quiet

build/docs/.complete: requirements/docs.txt
	@$(PYTHON) -m venv --clear build/docs
	@build/docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

# Diagrams are drawn in the reader's browser, by a script that the site itself serves.
MERMAID := 11.17.2
MERMAID_SHA256 := 581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8
build/docs/mermaid.min.js: build/docs/.complete
	@cd build/docs && npm pack --silent mermaid@$(MERMAID) >/dev/null
	@tar -xzOf build/docs/mermaid-$(MERMAID).tgz package/dist/mermaid.min.js >$@
	@echo "$(MERMAID_SHA256)  $@" | sha256sum --check --quiet

.PHONY: lint
lint: .venv/.complete ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: lint-workflows
lint-workflows: ## actionlint, built by Go
	@GOBIN=$(CURDIR)/build/bin go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	@build/bin/actionlint

.PHONY: format
format: .venv/.complete ## Put code into the project's format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench
bench: setup ## The benchmarks, as tables with ratios (PEER=COMMAND: another agent beside this one)
	@$(BIN)/python -m tests.benchmarks.bench_table $(if $(PEER),--peer "$(PEER)") $(ARGS)
	@for bench in sync informers memory fleet; do \
		echo "== $$bench"; $(BIN)/python -m tests.benchmarks.bench_$$bench || exit 1; done

.PHONY: lock
lock: build/tools/.complete ## Resolve the dependencies anew into requirements/
	@$(COMPILE) --upgrade pyproject.toml --output-file requirements/runtime.txt
	@$(COMPILE) --upgrade --extra test pyproject.toml --output-file requirements/dev.txt
	@$(COMPILE) --extra e2e --constraint requirements/dev.txt pyproject.toml --output-file requirements/e2e.txt
	@$(COMPILE) --upgrade --group docs --output-file requirements/docs.txt
	@$(COMPILE) --extra test --group mutants --constraint requirements/dev.txt pyproject.toml --output-file requirements/mutants.txt
	@echo hatchling | $(COMPILE) --upgrade - --output-file requirements/build.txt
	@printf 'pip-audit\nuv\n' | $(COMPILE) --upgrade - --output-file requirements/tools.txt

# With extras kept: pip 23.2 does not take the pin of a package for the same package with extras.
COMPILE = build/tools/bin/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --python-version 3.11 \
	--no-emit-index-url --no-header

.PHONY: audit
audit: build/tools/.complete ## Ask for known vulnerabilities of what the agent runs with
	@build/tools/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements/runtime.txt

build/tools/.complete: requirements/tools.txt
	@$(PYTHON) -m venv --clear build/tools
	@build/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

.PHONY: sbom
sbom: image ## Take the list of packages (CycloneDX) out of the image, into build/
	@mkdir -p build
	@container=$$($(DOCKER) create $(IMAGE)) && trap "$(DOCKER) rm $$container >/dev/null" EXIT && \
		$(DOCKER) cp --quiet $$container:/usr/share/sbom/compass-runtime-agent.cdx.json build/
	@echo build/compass-runtime-agent.cdx.json

# Both sign with the identity of the workflow that runs them (keyless), or of whoever logs in.
.PHONY: sign-image
sign-image: ## Sign a pushed image, and the SBOM of each of its platforms, with cosign
	@$(PYTHON) -m release.signing $(IMAGE)

.PHONY: sign-release
sign-release: ## Sign the checksums in dist/ with cosign
	@cosign sign-blob --yes --bundle dist/SHA256SUMS.sigstore.json dist/SHA256SUMS

.PHONY: clean
clean: ## Remove what was made in this folder (not the cache)
	@rm -rf .venv build dist artifacts .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
