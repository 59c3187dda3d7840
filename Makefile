# Needs Go, git, make and PostgreSQL (tests install it on Debian as root). `make` alone lists nothing: see CONTRIBUTING.md.
GO      ?= go
BIN     := bin/sluice
ONCE    ?=
# What cells are in make demo: nothing, for folders, or kubernetes.
TARGET  ?=
TIMEOUT ?= 45m
# How long a fuzz test runs.
FUZZTIME ?= 60s
# How long a soak lasts; from 5m on, memory and descriptors are judged.
SOAK    ?= 30m
# The race detector needs a C compiler: without one, Go sets CGO_ENABLED to 0, and the tests run without it.
CGO     := $(shell $(GO) env CGO_ENABLED)
RACE    ?= $(if $(filter 1,$(CGO)),-race)
# All else is compiled in one way, so that a new machine compiles each package once for it and once for the detector.
export CGO_ENABLED := 0
export GOFLAGS     := $(GOFLAGS) -trimpath

# Linters run at fixed versions, by the Go toolchain alone.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

# Folders with a go.mod: ours, and those under test whose requirements are nobody else's.
# test/kube is Kubernetes and 100 lines, which its build checks.
MODULES = $(filter-out test/kube/,$(dir $(shell git ls-files --cached --others --exclude-standard go.mod '*/go.mod')))

.PHONY: build
build: ## The binaries, in bin/: sluice, and sluice-agent for cells alone.
	$(GO) build -o bin/ ./cmd/sluice ./cmd/sluice-agent

.PHONY: test
test: cluster ## All tests, with the race detector. They start a PostgreSQL and Kubernetes of their own, and fail without.
# Tests wait more than they compute: three packages at once fill two processors.
	CGO_ENABLED=$(CGO) $(GO) test $(RACE) -p 3 -timeout $(TIMEOUT) $$($(GO) list ./... | grep -vE '/sluice/(cmd/sluice|test)$$')
# These start the command some thousand times, and the detector makes each start several times as slow. What the
# command runs is tested with it where it is; make race has all of it by hand.
	$(GO) test -timeout $(TIMEOUT) ./cmd/sluice ./test

.PHONY: race
race: cluster ## The command's scripts and the tests of whole systems with the race detector: an hour.
	CGO_ENABLED=$(CGO) $(GO) test -race -timeout 2h ./cmd/sluice ./test

.PHONY: cluster
cluster: ## The programs of a Kubernetes control plane, for tests: minutes and 4 GB of Go's cache for the first time, then at once.
	@test/kube/ensure.sh >/dev/null

.PHONY: lint
lint: ## Formatting, vet, staticcheck, of every module; and whether the programs compile for darwin.
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi
	@set -e; for module in $(MODULES); do \
		echo "vet, staticcheck in $$module"; \
		(cd $$module && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...); \
	done
	$(GO) run ./tools/platforms darwin/arm64

.PHONY: check
check: lint test

.PHONY: fmt
fmt:
	gofmt -w $$(git ls-files '*.go')

.PHONY: demo
demo: build $(if $(TARGET),cluster) ## A release on its way, and a bad one that staging catches; ONCE=1 exits by itself, TARGET=kubernetes has clusters.
	$(if $(TARGET),$(GO) run ./test/clusterdemo )$(BIN) demo $(if $(TARGET),--timeout 6m) $(if $(ONCE),--once)

.PHONY: ui
ui: ## The console in Chromium, for some minutes. Needs Chromium and Node, which root gets on Debian. A module of its own.
	cd test/ui && $(GO) vet ./... && $(GO) test -count=1 -timeout $(TIMEOUT) ./...

.PHONY: screenshots
screenshots: ## Pictures of all pages, and the owner's, light and dark, into .screenshots/; docs shows some. WHOLE=1: all of each page, in forced colours, narrow and zoomed too.
	@mkdir -p .screenshots
	cd test/ui && $(GO) test -count=1 -run 'TestScreenshots|TestOwnersPage' . -args -screens $(CURDIR)/.screenshots $(if $(WHOLE),-whole)
	cp .screenshots/owner-0-light.png .screenshots/owner-light.png
	@mkdir -p docs/console && cp .screenshots/now-light.png .screenshots/fleet-dark.png .screenshots/cells-s1-light.png .screenshots/owner-light.png docs/console/

.PHONY: bench-console
bench-console: ## The console at ten thousand cells, beside bare handlers, SQL and pages; ONLY=wall measures one group. Needs Chromium, as ui.
	cd test/ui && $(GO) test -c -o ../../bin/ui.test . # go test would hide what a test that passes prints
	cd test/ui && ../../bin/ui.test -test.timeout 90m -test.run TestFigures -figures $(if $(ONLY),-only $(ONLY)) $(if $(TABS),-tabs $(TABS))

.PHONY: bench
bench: ## Speed, a row a line, each met or short.
	$(GO) run ./test/bench

.PHONY: bench-trust
bench-trust: ## What it costs a cell to verify signed releases, beside a bare hash of the same release.
	$(GO) run ./test/bench -only trust

.PHONY: bench-export
bench-export: ## What leaves a cell, beside bare protobuf, and its memory; debug sessions, beside OpenSSH, and their stops.
	$(GO) run ./test/bench -only export,debug
	$(GO) test ./cells/agent/debugger -run '^$$' -bench D2Stop -benchtime 200x

.PHONY: bench-fleet
bench-fleet: ## The same for ten thousand cells: server, load and bare baselines side by side.
	$(GO) run ./test/fleet

.PHONY: bench-strangers
bench-strangers: ## Reports of known cells while strangers flood the cells' listener, beside the same at rest.
	$(GO) run ./test/fleet -only strangers

.PHONY: bench-images
bench-images: ## Pulls of images through the control plane, beside a bare server and Debian's registry.
	$(GO) run ./test/fleet -only images

.PHONY: bench-kube
bench-kube: cluster ## The Kubernetes target on a real API server, beside kubectl apply in the same run.
	$(GO) run ./test/clusterbench

.PHONY: fuzz
fuzz: ## What is read from outside, with made-up input: each fuzz test for FUZZTIME, one after the other.
	@set -e; git grep -o '^func Fuzz[A-Za-z]*' -- '*_test.go' | sed 's/[^/]*:func / /' | while read -r package test; do \
		echo "$$package $$test"; \
		$(GO) test -run '^$$' -fuzz "^$$test\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s ./$$package </dev/null; \
	done

.PHONY: soak
soak: ## A control plane and three cells, disturbed for SOAK while releases and flags change; memory and files as a table.
	SOAK=$(SOAK) $(GO) test -count=1 -v -timeout 0 -run 'TestSoak$$' ./test

.PHONY: supply
supply: ## Known vulnerabilities in what we build on, and secrets in the history; see tools/supply.
	$(GO) run ./tools/supply $(VULNDB)

.PHONY: oracle
oracle: ## 100,000 random flags and contexts evaluated by flagd/core and by us: the same in every one. A module of its own.
	cd test/oracle && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: bench-flags
bench-flags: ## The same for feature flags, beside flagd/core; then a change and a kill told to a thousand cells.
	cd test/oracle && $(GO) run ./bench
	$(GO) run ./test/fleet -only flags

.PHONY: clients
clients: ## OpenFeature's own providers for Go and JavaScript ask our flags. Needs Node, which root gets on Debian. A module of its own.
	cd test/clients && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: telemetry
telemetry: build ## OpenTelemetry's own SDKs for Go and JavaScript send, its collector receives. Needs Node. A module of its own.
	cd test/telemetry && $(GO) vet ./... && SLUICE=$(CURDIR)/$(BIN) $(GO) test -count=1 ./...

.PHONY: sign-in
sign-in: ## Signing in at two independent identity providers, in Chromium too. Needs Node and Chromium. A module of its own.
	cd test/signin && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: tuf
tuf: ## Signed repositories, good and attacked, as tuf-js judges them. Needs Node, as clients does. A module of its own.
	cd test/tuf && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: cloudformation
cloudformation: ## Templates: cfn-guard with our rules, and public templates without false alarms. Needs Node. A module of its own.
	cd test/cloudformation && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: aws
aws: ## An agent and a customer at a made-up AWS account, by the aws command, which root gets on Debian. A module of its own.
	cd test/aws && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: testbed
testbed: ## flagd's own testbed, as a table: each scenario by the OpenFeature provider and by OFREP.
	$(GO) test -count=1 -run Testbed ./flags/provider

.PHONY: release
release: ## Everything of a release, from the checked-out commit, into dist/; VERIFY=1 makes it twice and compares. See docs/install.md.
	cd tools/release && $(GO) run . -o $(CURDIR)/dist $(if $(BASE),-base $(abspath $(BASE))) $(if $(VERIFY),-verify)

.PHONY: release-test
release-test: ## A release for this machine, and the alerts. Needs dpkg, and promtool, which root gets on Debian. A module of its own.
	cd tools/release && $(GO) vet ./... && $(GO) test -count=1 -timeout $(TIMEOUT) ./...

.PHONY: schema
schema: ## docs/schema/*.json, from the Go types.
	$(GO) run ./tools/schema docs/schema
