SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PORT     ?= 8080
FUZZTIME ?= 50000x
COVERAGE ?= 85
COUNT    ?= 1
HELMS    ?= helm helm3

BIN      := $(CURDIR)/.bin
BROWSER  := services/trial/browser
AXE      := $(BIN)/axe/node_modules/axe-core/axe.min.js
SERVICES := gateway auth cart
MODULES  := $(patsubst %/go.mod,%,$(wildcard proto/go.mod services/*/go.mod))

export CGO_ENABLED ?= 0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Try it

demo: build redis $(if $(WATCH),prometheus) ## a trial: traffic and faults of every kind for little more than a minute, a verdict, a report in .run/trial/demo
	@$(BIN)/trial run $(if $(WATCH),-watch helm/coatcheck)

watch: $(BIN)/trial ## the trial that runs, in this terminal (make demo in another); the page that it names shows more
	@$(BIN)/trial watch

up: build redis $(if $(WATCH),prometheus) ## open a shop on http://127.0.0.1:PORT (PORT=8080); WATCH=1: with a Prometheus and the alerts
	@$(BIN)/trial up -port $(PORT) $(if $(WATCH),-watch helm/coatcheck)

down: $(BIN)/trial ## close that shop; its data stay in .run/PORT
	@$(BIN)/trial down -port $(PORT)

ps: $(BIN)/trial ## its processes
	@$(BIN)/trial ps -port $(PORT)

rotate-keys: $(BIN)/auth ## have that shop sign by a new key in 20 seconds; tickets of the old one stay good
	@$(BIN)/auth rotate-keys -file .run/$(PORT)/keys/signing-keys.pem -lead 20s

trial-long: build redis ## the same for 20 minutes, with at least 500 kills and 500,000 changes
	@$(BIN)/trial run -scenario long

trial-rotation: build redis ## 13 minutes in which the signing keys are rotated all the time, under at least 500 kills: no ticket may be refused
	@$(BIN)/trial run -scenario rotation

compare: build redis ## five ways to keep state under the same traffic and faults: a table, and .run/compare; 3 to 5 minutes
	@go build -trimpath -o $(BIN)/ ./services/trial/cmd/stateful
	@$(BIN)/trial compare -dir .run/compare

bench: build redis ## what a request costs, beside servers with fewer parts: a table, and .run/bench; half an hour, nearly one on a busy machine. SHORT=1: two minutes, and fails past its limits; SHORT=counts: without the rate, which neighbours move
	@go build -trimpath -o $(BIN)/ ./services/trial/cmd/reference
	@$(BIN)/trial bench $(if $(SHORT),-short $(if $(filter counts,$(SHORT)),-counts )-dir .run/bench-short,-dir .run/bench)
	@$(if $(SHORT),,go test -count=1 -v -run '^TestCheckIsCheap$$' ./services/gateway)

redis-crash: build redis strace ## what Redis loses when the machine crashes under it: always nothing, everysec something
	@$(BIN)/trial redis-crash

## On Kubernetes

kind-up: $(BIN)/kind ## a three-node kind cluster with a kubeconfig of its own; needs Docker
	@k8s/kind/up.sh

images: ## the images gateway, auth, cart and trial as REGISTRY/coatcheck/NAME:TAG, in this machine's Docker
	@REGISTRY=$(REGISTRY) TAG=$(TAG) k8s/kind/images.sh

kind-load: $(BIN)/kind ## build the images and load them into the cluster
	@k8s/kind/load.sh

kind-shop: kind-load $(BIN)/helm ## install the shop there, http://127.0.0.1:30080
	@k8s/kind/shop.sh

kind-demo: kind-up ## load until the autoscalers work, pods deleted meanwhile, a verdict, and down again; 11 minutes
	@$(MAKE) --no-print-directory build kind-shop
	@SCALE=scale-pods k8s/kind/trial.sh autoscale

kind-chaos: build ## 5 minutes of deleted pods on the shop of kind-shop
	@LENGTH=5m k8s/kind/trial.sh pods

kind-trial: build ## all that can happen to pods and nodes, on the shop of kind-shop; three quarters of an hour
	@k8s/kind/trial.sh pods pods-mixed pods-rolling pods-redis node node-redis autoscale

kind-check: $(BIN)/kind ## what a shop needs of the cluster: names, volumes, metrics, isolation; stops a worker
	@k8s/kind/check.sh

kind-down: $(BIN)/kind ## delete the cluster with its volumes
	@k8s/kind/down.sh

test-chart: build $(BIN)/helm $(BIN)/helm3 $(BIN)/cert-manager ## the chart there: install, helm test, upgrade under traffic, rollback, uninstall, on a Redis of one's own; Helm 4 and 3, and kubectl apply
	@for helm in $(HELMS); do helm/test/cluster.sh $$helm; done
	@helm/test/manifests.sh

test-manifests: go redis prometheus $(BIN)/helm $(BIN)/helm3 $(BIN)/kube-score ## the chart in every shape, the manifests, and chaos.sh; no cluster
	GOWORK=off go -C helm/test vet ./... && GOWORK=off go -C helm/test test -count=1 ./...

pictures: build redis prometheus ## the README's pictures: dashboards of a trial in which replicas die, drawn by trial run -watch
	@$(BIN)/trial run -scenario processes -watch helm/coatcheck -dir .run/trial/pictures
	@cp .run/trial/pictures/dashboards/{trial,overview,survive}.svg .github/

test-dashboards: build redis prometheus ## every alert fires and stays quiet; every panel has data of a shop under load and faults; 3 minutes
	GOWORK=off go -C helm/test/watch vet ./... && GOWORK=off go -C helm/test/watch test -count=1 ./...

fix-manifests: $(BIN)/helm ## make from the chart what k8s has of it
	k8s/generate.sh

verify-manifests: fix-manifests ## what is committed is what the chart makes
	@test -z "$$(git status --porcelain -- k8s/base k8s/install.yaml k8s/overlays/kind/prometheus.yaml helm/coatcheck/acl | tee -a /dev/stderr)" || { git diff -- k8s helm/coatcheck/acl; exit 1; }

verify-kind: shellcheck ## the scripts pass shellcheck, and each version is the one of k8s/versions.env
	@GOWORK=off go -C k8s/tools mod download sigs.k8s.io/kind
	@k8s/kind/verify.sh

reproducible: ## the same commit and Go give the same binaries wherever they are built
	@GOARCH=$$(go env GOARCH) k8s/kind/reproducible.sh

# Built when first wanted: Helm alone takes minutes.
TOOL_kind  := sigs.k8s.io/kind
TOOL_helm  := helm.sh/helm/v4/cmd/helm
TOOL_helm3 := helm.sh/helm/v3/cmd/helm
$(BIN)/kind $(BIN)/helm $(BIN)/helm3: k8s/tools/go.mod k8s/tools/go.sum
	@GOWORK=off go -C k8s/tools build -trimpath -o $@ $(TOOL_$(@F))

$(BIN)/kube-score: k8s/tools/kube-score/go.mod
	@GOWORK=off go -C k8s/tools/kube-score build -trimpath -o $@ github.com/zegl/kube-score/cmd/kube-score

$(BIN)/cert-manager: k8s/tools/cert-manager/go.mod
	@GOWORK=off go -C k8s/tools/cert-manager build -trimpath -o $@ github.com/cert-manager/cert-manager/cmd/controller

## Build and check

build: go ## the binaries, into .bin
	@go build -trimpath -o $(BIN)/ $(foreach s,$(SERVICES) trial,./services/$s/cmd/$s)

$(BIN)/trial:
	@go build -trimpath -o $@ ./services/trial/cmd/trial

$(BIN)/auth:
	@go build -trimpath -o $@ ./services/auth/cmd/auth

test: go redis strace ## all tests
	go test work

test-browser: go redis chromium $(AXE) ## the storefront in a real Chromium, and screenshots into PICTURES if that names a folder; COUNT=20 times
	GOWORK=off go -C $(BROWSER) mod tidy -diff && GOWORK=off go -C $(BROWSER) vet ./...
	GOWORK=off go -C $(BROWSER) test -count=$(COUNT) -timeout=$(COUNT)0m ./... $(if $(PICTURES),-args -pictures=$(abspath $(PICTURES)))

# npm holds what it fetches against the hash in package-lock.json.
$(AXE): $(BROWSER)/package.json $(BROWSER)/package-lock.json | npm
	@mkdir -p $(BIN)/axe && cp $^ $(BIN)/axe/ && npm ci --prefix $(BIN)/axe --ignore-scripts --no-audit --no-fund --silent && touch $@

# Those of the second line, with the detector in services and in hashing passwords, would keep the others waiting, and
# each other.
race: go redis strace ## all tests with the race detector, but those that measure whole shops
	CGO_ENABLED=1 go test -race $$(go list work | grep -vE '/trial/(defects|e2e)$$')
	CGO_ENABLED=1 go test -race -p 1 -parallel 1 ./services/trial/defects ./services/trial/e2e

lint: ## gofmt and go vet
	@test -z "$$(gofmt -l proto services helm | tee -a /dev/stderr)"
	go vet work

# All services at once, each one's packages in its own figure: no service's tests reach another's.
cover: go redis strace ## statement coverage of each service without its main; fails below COVERAGE (85) percent
	@mkdir -p $(BIN); of=$$(go list $(SERVICES:%=./services/%/...) | grep -v /cmd/ | paste -sd, -); \
	go test -v -coverprofile=$(BIN)/cover.out -coverpkg=$$of $(SERVICES:%=./services/%/...) > $(BIN)/cover.log || { grep -B40 -A10 -e "--- FAIL" -e ^panic: -e ^FAIL $(BIN)/cover.log; exit 1; }; \
	for s in $(SERVICES); do grep -e ^mode: -e ^coatcheck/$$s/ $(BIN)/cover.out > $(BIN)/$$s.out; \
	go tool cover -func=$(BIN)/$$s.out | awk -v s=$$s -v least=$(COVERAGE) '/^total:/ { sub("%", "", $$3); printf "%-8s %s %%\n", s, $$3; exit $$3 < least }'; done

# The services' tests have run with counters of coverage then. What is skipped under those is run without them, and alone:
# it measures time. The package that takes longest begins first.
test-once: cover ## cover and all other tests; none is run twice
	@awk '/^ *--- SKIP: / { sub("/.*", "", $$3); names = names "|" $$3 } /^ok / { if (names) print $$2, substr(names, 2); names = "" }' $(BIN)/cover.log > $(BIN)/skipped; \
	[ -s $(BIN)/skipped ] || { echo "nothing is skipped under coverage: what measures time should be" >&2; exit 1; }; \
	while read -r package names; do go test -count=1 -run "^($$names)$$" "$$package" < /dev/null; done < $(BIN)/skipped
	go test ./services/trial/e2e $$(go list work | grep -vE '^coatcheck/($(subst $() ,|,$(SERVICES)))(/|$$)')

# Each package is built once, where go test would do so for each of its targets. A time in place of a number of inputs now
# and then ends in "context deadline exceeded" before Go 1.27, see go.dev/issue/75804.
fuzz: ## each fuzz target for FUZZTIME (50000x: so many inputs)
	@mkdir -p $(BIN); { grep -rlE --include='*_test.go' '^func Fuzz' services || true; } | xargs -rn1 dirname | sort -u | while read -r package; do \
	go test -c -fuzz=. -o $(BIN)/fuzz "./$$package"; \
	for target in $$(grep -hoE '^func Fuzz\w+' "$$package"/*_test.go | cut -d' ' -f2); do echo "$$package $$target"; \
	(cd "$$package" && $(BIN)/fuzz -test.run '^$$' -test.fuzz "^$$target$$" -test.fuzztime $(FUZZTIME) -test.fuzzcachedir "$$(go env GOCACHE)/fuzz/coatcheck/$${package#services/}" < /dev/null); done; done

build-alone: ## each module builds and is tidy without the workspace
	@for m in $(MODULES); do echo $$m; (cd $$m && GOWORK=off go build ./... && GOWORK=off go mod tidy -diff); done

proto: $(BIN)/.proto-tools ## generate the Go code of the protos
	cd proto && PATH="$(BIN):$$PATH" buf generate

verify-proto: proto ## the protos are clean, and what is committed is what they generate
	cd proto && $(BIN)/buf lint && $(BIN)/buf format --diff --exit-code
	@test -z "$$(git status --porcelain -- proto | tee -a /dev/stderr)" || { git diff -- proto; exit 1; }

fix-metrics: go redis ## make helm/coatcheck/METRICS.md from what the services export
	go test -count=1 -run '^TestMetricsPage$$' ./services/trial/e2e -update

verify-metrics: fix-metrics ## what is committed is what the services export
	@test -z "$$(git status --porcelain -- helm/coatcheck/METRICS.md | tee -a /dev/stderr)" || { git diff -- helm/coatcheck/METRICS.md; exit 1; }

$(BIN)/.proto-tools: proto/tools/go.mod proto/tools/go.sum
	GOWORK=off GOBIN=$(BIN) go -C proto/tools install tool && touch $@

go:
	@command -v go > /dev/null || { echo "go is missing: install Go 1.26 or later, see go.dev/dl" >&2; exit 1; }

# As root on Debian it is installed, without leaving the system's own Redis running.
redis:
	@command -v redis-server > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; } || \
	{ echo "redis-server is missing: apt-get install redis-server (Debian, Ubuntu) or brew install redis (macOS)" >&2; exit 1; }
	@command -v redis-server > /dev/null || { apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	apt-get install -qy --no-install-recommends redis-server && { service redis-server stop > /dev/null 2>&1 || true; }; }

# With promtool. As root on Debian it is installed, without leaving the system's own running.
prometheus:
	@command -v prometheus > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; } || \
	{ echo "prometheus is missing: apt-get install prometheus (Debian, Ubuntu) or brew install prometheus (macOS)" >&2; exit 1; }
	@command -v prometheus > /dev/null || { apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	apt-get install -qy --no-install-recommends prometheus && { service prometheus stop > /dev/null 2>&1 || true; }; }

# Only Linux has it; elsewhere nothing that needs it is tested.
strace:
	@[ "$$(uname)" != Linux ] || command -v strace > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; } || \
	{ echo "strace is missing: apt-get install strace (Debian, Ubuntu)" >&2; exit 1; }
	@[ "$$(uname)" != Linux ] || command -v strace > /dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	apt-get install -qy --no-install-recommends strace; }

# Without the fonts that Debian only recommends there would be no letters.
chromium:
	@for c in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$c > /dev/null && exit; done; \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; } || \
	{ echo "chromium is missing: apt-get install chromium fonts-liberation (Debian), or install Chrome" >&2; exit 1; }; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium fonts-liberation

npm:
	@command -v npm > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; } || \
	{ echo "npm is missing: apt-get install npm (Debian, Ubuntu) or brew install node (macOS)" >&2; exit 1; }
	@command -v npm > /dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends npm; }

shellcheck:
	@command -v shellcheck > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; } || \
	{ echo "shellcheck is missing: apt-get install shellcheck (Debian, Ubuntu) or brew install shellcheck (macOS)" >&2; exit 1; }
	@command -v shellcheck > /dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	apt-get install -qy --no-install-recommends shellcheck; }

clean: ## remove what was built; shops that run and their data stay
	rm -rf $(BIN)

.PHONY: images kind-up kind-load kind-shop kind-demo kind-chaos kind-trial kind-check kind-down \
  test-chart test-manifests test-dashboards test-browser pictures fix-manifests verify-manifests verify-kind reproducible shellcheck \
  go help demo watch trial-long trial-rotation compare bench redis-crash up down ps rotate-keys build test test-once race lint cover fuzz build-alone proto verify-proto fix-metrics verify-metrics redis prometheus strace chromium npm clean
