# The one door: `make help` explains every target.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

GO ?= go
# Developer tools are pinned in tools/go.mod, away from the product's modules.
TOOL := $(GO) tool -modfile=tools/go.mod
# The race detector needs a C compiler; `make test` installs one.
RACE := $(if $(shell command -v gcc),-race)
# The release that binaries and images say they are.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/heraldlb/herald/internal/version.release=$(VERSION)
# Go code of the lab and its tests is built without cgo, as Kubernetes itself is:
# one build cache serves both.
LAB := cd e2etest && CGO_ENABLED=0
# Nothing runs without an end. $(call cap,MINUTES) COMMAND
cap = timeout --foreground --kill-after=30s $(1)m nice

##@ Build

.PHONY: build
build: ## Build the controller and the speaker into bin/.
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./controller ./speaker

.PHONY: images
images: ## Build OCI archives for linux/amd64 and linux/arm64 into dist/. Needs no registry and no container engine.
	cd tools && $(GO) run ./images -version '$(VERSION)' -out ../dist

.PHONY: generate
generate: ## Generate deepcopy code, CRDs and the docs that come from code.
	$(TOOL) controller-gen object paths=./api/...
	$(TOOL) controller-gen crd paths=./api/... output:crd:dir=config/crd/bases
	$(MAKE) --no-print-directory docs

.PHONY: docs
docs: ## Generate docs/reasons.md, docs/flags.md and docs/metrics.md from the code.
	$(GO) run ./internal/docgen docs

.PHONY: tidy
tidy: ## Tidy the go.mod of the product, of the lab and of the tools.
	$(GO) mod tidy
	cd e2etest && $(GO) mod tidy
	cd tools && $(GO) mod tidy

.PHONY: clean
clean: ## Remove what was built here (the Go build cache stays).
	rm -rf bin dist e2etest/bin

##@ Check

.PHONY: verify
verify: ## Check that generated files are fresh, modules tidy, code formatted, vetted and linted, and rooms apart.
	tools/verify-generated
	$(GO) mod verify >/dev/null
	$(GO) mod tidy -diff
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); \
		[ -z "$$unformatted" ] || { echo "verify: run gofmt -w on: $$unformatted" >&2; exit 1; }
	@awk -F: '/^[a-z][a-z0-9-]*:/ && !/##/ { print "verify: target " $$1 " has no ## explanation in the Makefile"; bad = 1 } END { exit bad }' Makefile
	$(MAKE) --no-print-directory lint
	$(GO) test ./internal/layering ./config

.PHONY: lint
lint: ## Run go vet and staticcheck over the product, its tests and the lab.
	$(GO) vet -tags netns ./...
	$(TOOL) staticcheck -tags netns ./...
	$(LAB) $(GO) vet -tags lab $$($(GO) list -tags lab ./... | grep -v '/kube$$')
	root=$$PWD; $(LAB) $(GO) tool -modfile=$$root/tools/go.mod staticcheck -tags lab $$($(GO) list -tags lab ./... | grep -v '/kube$$')

##@ Test

.PHONY: test
test: packages ## Run every test: units, fuzz, network namespaces, the real API server, the whole cluster. Needs root.
	$(MAKE) --no-print-directory test-unit
	$(MAKE) --no-print-directory fuzz
	$(MAKE) --no-print-directory test-netns
	$(MAKE) --no-print-directory test-api
	$(MAKE) --no-print-directory test-e2e

.PHONY: packages
packages: ## Install the Debian packages that tests and demo use, if they are missing. Needs root then.
	tools/install-packages

.PHONY: test-unit
test-unit: ## Run tables, stories, properties and virtual-time tests. Needs only Go.
	$(call cap,20) $(GO) test $(RACE) -timeout 10m ./...
	$(LAB) $(call cap,20) $(GO) test -timeout 10m $$($(GO) list ./... | grep -v '/kube$$')
	$(call cap,5) $(GO) test -C tools -timeout 3m ./...

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (4s); FUZZ=regexp limits the targets.
	GO=$(GO) $(call cap,20) tools/fuzz $(or $(FUZZTIME),4s) $(FUZZ)

.PHONY: test-netns
test-netns: packages ## Run the tests with real sockets and tools in network namespaces. Needs root.
	$(call cap,15) $(GO) test $(RACE) -tags netns -run Netns -count 1 -p 1 -timeout 10m ./speaker/...

.PHONY: test-api
test-api: packages lab-build ## Run the tests against the real kube-apiserver. Needs root.
	$(LAB) $(call cap,20) $(GO) test -tags lab -count 1 -p 1 -timeout 15m ./apitest/...

.PHONY: test-e2e
test-e2e: packages lab-build ## Run the end-to-end tests in the lab: a whole cluster. Needs root.
	$(LAB) $(call cap,30) $(GO) test -tags lab -count 1 -p 1 -timeout 25m ./lab/... ./e2e/...

.PHONY: bench
bench: packages ## Measure and compare with bench/budgets.txt; RUN=regexp measures a part. Always exits 0.
	$(GO) run ./bench -run '$(RUN)'

##@ See it work

.PHONY: demo
demo: packages lab-build ## Show the main job on real clusters on this machine. PART=layer2 or bgp plays a part, KEEP=1 leaves it up. Needs root.
	$(LAB) $(GO) run ./cmd/demo

.PHONY: lab-build
lab-build: ## Build Kubernetes, the lab and the images that it runs (minutes the first time, seconds afterwards).
	$(LAB) $(call cap,25) $(GO) run ./cmd/lab build

.PHONY: lab-up
lab-up: packages lab-build ## Start a cluster of 3 nodes and a client to play with; it ends by itself after two hours.
	e2etest/bin/lab up

.PHONY: lab-down
lab-down: ## End that cluster and remove all it made.
	e2etest/bin/lab down

##@ Help

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z0-9-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
