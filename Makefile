GO ?= go
GORELEASER = github.com/goreleaser/goreleaser/v2@v2.14.3
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The tools that make test-clients runs, each at a version whose events are known. Claude Code also runs at the oldest
# version that /connect names.
CLIENTS ?= @anthropic-ai/claude-code@2.1.332 oldest-claude-code@npm:@anthropic-ai/claude-code@2.1.101 \
	@openai/codex@0.169.0 @google/gemini-cli@0.61.0 opencode-ai@1.18.33 @github/copilot@1.0.102
# Where the schemas for the tests of the chart come from: the oldest and the newest Kubernetes that it supports, and the
# kinds of others.
KUBERNETES = k8s.io/kubernetes@v1.31.14 k8s.io/kubernetes@v1.37.2
PROMETHEUS_OPERATOR = github.com/prometheus-operator/prometheus-operator@v0.85.0
GATEWAY_API = sigs.k8s.io/gateway-api@v1.5.0
VERSION_PACKAGE = github.com/kubeagents/kubeagents/internal/version
BROWSER ?= chromium
PAIRS ?= 11
FAILOVERS ?= 10
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
ATTACK ?= 10m
FUZZTIME ?= 100000x

.PHONY: help run token test test-dashboard test-clients test-receivers test-alerts test-proxies nats-server test-nats test-watcher test-chart manifests schemas test-chart-cluster crash attack bench bench-cluster bench-failover demo fuzz lint cold platforms build release test-release image cluster test-cluster

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## run the server, on port 8080 unless PORT says another
	$(GO) run main.go

token: ## create a token and add its line to the file TOKENS (NAME=ci SCOPES=report,read AGENTS='team-a/*' TOKENS=tokens)
	@$(GO) run . token -scopes '$(or $(SCOPES),report)' $(if $(AGENTS),-agents '$(AGENTS)') '$(or $(NAME),$(error NAME is not set))' >>'$(or $(TOKENS),tokens)'

test: ## run the tests
	$(GO) test ./...

test-dashboard: ## test the dashboard in a browser (BROWSER=chromium)
	KUBEAGENTS_BROWSER=$(BROWSER) $(GO) test ./internal/dashboard -count=1

test-clients: ## install agents' tools from npm into a scratch folder and test them (needs Node.js 20 or later, tmux, and root for some tests)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	npm install --prefix "$$scratch" --no-fund --no-audit --loglevel=error $(CLIENTS) && \
	KUBEAGENTS_CLIENTS="$$scratch" $(GO) test ./internal/e2e -count=1 -run TestReal -timeout 10m -v

test-receivers: ## test notifications with a real Alertmanager and mail server (on Debian, prometheus-alertmanager and python3-aiosmtpd)
	KUBEAGENTS_RECEIVERS=1 $(GO) test ./internal/e2e -count=1 -run TestReceiver -v

test-alerts: ## test the alerts and the Grafana dashboard's queries with a real Prometheus (on Debian, prometheus)
	KUBEAGENTS_PROMETHEUS=1 $(GO) test ./internal/e2e -count=1 -run TestPrometheus -v

test-proxies: ## test the manual's configurations of reverse proxies (on Debian, nginx-light, caddy, haproxy and apache2)
	KUBEAGENTS_PROXIES=1 $(GO) test ./internal/e2e -count=1 -run TestProxies -parallel 16 -v

test-nats: nats-server ## test with NATS servers that are killed and cut off, also in processes of their own
	KUBEAGENTS_NATS=1 KUBEAGENTS_NATS_SERVER="$$PWD/bin/nats-server" $(GO) test ./internal/natstest ./internal/cluster -count=1 -v
	KUBEAGENTS_NATS=1 $(GO) test . -count=1 -v -run 'TestServer/.*Three'
	KUBEAGENTS_NATS=1 KUBEAGENTS_NATS_SERVER="$$PWD/bin/nats-server" $(GO) test ./internal/e2e -count=1 -v -run TestCluster -timeout 20m

test-watcher: ## vet and test the watcher of Kubernetes, a module of its own, also with the race detector
	cd deploy/watcher && test -z "$$(gofmt -l .)" && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./... && $(GO) mod tidy -diff && \
	$(GO) test ./... && $(GO) test -race ./...

test-chart: ## test the Helm chart and the manifests: with Helm, kubeconform and kustomize, and with the program
	KUBEAGENTS_CHART=1 $(GO) test ./internal/e2e -count=1 -run 'TestChart|TestKubernetesPage' -skip 'TestChart(Installs|VolumeGrows|BecomesSeveral|NATSInstalls|WatcherRuns)' -timeout 30m -v

test-chart-cluster: cluster ## install, upgrade and remove the chart on that control plane
	KUBEAGENTS_CHART=1 KUBEAGENTS_CLUSTER="$$PWD/bin/cluster" $(GO) test ./internal/e2e -count=1 -run 'TestChart(Installs|VolumeGrows|BecomesSeveral|NATSInstalls|WatcherRuns)' -timeout 30m -v

manifests: ## write the manifests and the other files that are held equal to what the chart renders
	KUBEAGENTS_CHART=write $(GO) test ./internal/e2e -count=1 -run 'TestChart(Copies|ValuesAreDocumented|Golden|Manifests)' -timeout 30m

schemas: ## write the schemas by which the chart's objects are tested
	@$(foreach module,$(KUBERNETES) $(PROMETHEUS_OPERATOR) $(GATEWAY_API),GOFLAGS=-mod=mod $(GO) mod download $(module) && ) \
	modules=$$($(GO) env GOMODCACHE) && cd internal/e2e/testdata/chart/schemas && \
	for version in $(KUBERNETES); do \
		minor=$${version#*@}; \
		$(GO) run github.com/kubeagents/kubeagents/internal/kubeschema -out "$${minor%.*}" "$$modules/$$version/api/openapi-spec/swagger.json" || exit 1; \
	done && \
	$(GO) run github.com/kubeagents/kubeagents/internal/kubeschema -out custom \
		"$$modules"/$(PROMETHEUS_OPERATOR)/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml \
		"$$modules"/$(PROMETHEUS_OPERATOR)/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml \
		"$$modules"/$(GATEWAY_API)/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml \
		"$$modules"/$(GATEWAY_API)/config/crd/standard/gateway.networking.k8s.io_backendtlspolicies.yaml

crash: ## kill the program 20 times under load
	KUBEAGENTS_KILL_ROUNDS=20 $(GO) test ./internal/e2e -count=1 -run TestProgramKilled -v

attack: ## attack a server with its most expensive requests, and check that others are served (ATTACK=10m)
	KUBEAGENTS_ATTACK=$(ATTACK) $(GO) test ./internal/e2e -count=1 -run TestOthersAreServedUnderAttack -v -timeout 24h

bench: ## measure speed and memory against baselines (PAIRS=11)
	$(GO) test . ./store ./handlers -run '^$$' -bench .
	$(GO) test ./internal/journal -run '^$$' -bench . -timeout 30m
	$(GO) test ./internal/bench -run '^$$' -bench 'OneReport|Batch|Durable|Intake|FanOut|Guarded|NotificationRules|Hook$$' -benchtime $(PAIRS)x -timeout 30m
	$(GO) test ./internal/bench -run '^$$' -bench Delivery -benchtime 20x
	$(GO) test ./internal/bench -run '^$$' -bench NotificationLatency -benchtime 5x
	$(GO) test ./internal/notify -run '^$$' -bench Timers -benchtime 1x
	$(GO) test ./internal/bench -run '^$$' -bench HookLatency -benchtime 5x
	$(GO) test ./internal/bench -run '^$$' -bench OthersWait -benchtime 3x -timeout 20m
	$(GO) test ./internal/bench -run '^$$' -bench 'Resident|SubscriberMemory' -benchtime 1x
	$(MAKE) bench-cluster
	KUBEAGENTS_BROWSER=$(BROWSER) $(GO) test ./internal/dashboard -run '^$$' -bench FirstLoad -benchtime $(PAIRS)x
	KUBEAGENTS_BROWSER=$(BROWSER) $(GO) test ./internal/dashboard -run '^$$' -bench Change -benchtime 200x

nats-server:
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2

bench-cluster: nats-server ## measure three servers on three NATS nodes (PAIRS=11)
	KUBEAGENTS_NATS_SERVER="$$PWD/bin/nats-server" $(GO) test ./internal/bench -run '^$$' -bench 'Cluster(OneReport|Batch|Applied)$$' -benchtime $(PAIRS)x -timeout 30m
	KUBEAGENTS_NATS_SERVER="$$PWD/bin/nats-server" $(GO) test ./internal/bench -run '^$$' -bench ClusterCatchUp -benchtime 3x -timeout 30m
	KUBEAGENTS_NATS_SERVER="$$PWD/bin/nats-server" $(GO) test ./internal/bench -run '^$$' -bench ClusterJoin -benchtime 1x -timeout 30m

bench-failover: nats-server ## kill the NATS node that leads the stream, and measure until reports are taken again (FAILOVERS=10)
	KUBEAGENTS_NATS_SERVER="$$PWD/bin/nats-server" $(GO) test ./internal/bench -run '^$$' -bench ClusterFailover -benchtime $(FAILOVERS)x -timeout 60m

demo: ## run the server with a made-up fleet to look at, until you interrupt it
	@$(GO) build -o bin/demo ./internal/demo && exec bin/demo

fuzz: ## fuzz each decoder (FUZZTIME=100000x, or a duration such as 10m)
	$(GO) test ./handlers -run '^$$' -fuzz FuzzReports -fuzztime $(FUZZTIME)
	$(GO) test ./handlers -run '^$$' -fuzz FuzzGzip -fuzztime $(FUZZTIME)
	$(GO) test ./handlers -run '^$$' -fuzz FuzzCursor -fuzztime $(FUZZTIME)
	$(GO) test ./handlers -run '^$$' -fuzz FuzzPath -fuzztime $(FUZZTIME)
	$(GO) test ./handlers -run '^$$' -fuzz FuzzAuthorization -fuzztime $(FUZZTIME)
	$(GO) test ./handlers -run '^$$' -fuzz FuzzCookies -fuzztime $(FUZZTIME)
	$(GO) test ./internal/adapters -run '^$$' -fuzz FuzzReport -fuzztime $(FUZZTIME)
	$(GO) test ./internal/adapters -run '^$$' -fuzz FuzzScanner -fuzztime $(FUZZTIME)
	$(GO) test ./internal/access -run '^$$' -fuzz FuzzTokens -fuzztime $(FUZZTIME)
	$(GO) test ./internal/notify -run '^$$' -fuzz FuzzParse -fuzztime $(FUZZTIME)
	$(GO) test ./internal/notify -run '^$$' -fuzz FuzzShoutrrrURL -fuzztime $(FUZZTIME)
	$(GO) test ./internal/journal -run '^$$' -fuzz FuzzDecode -fuzztime $(FUZZTIME)

lint: ## check formatting, vet, staticcheck and go.mod
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'not formatted: run gofmt -w .'; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff

cold: ## build the program from an empty cache, with cgo and without, and print how long that takes
	@scratch=$$(mktemp -d) && trap 'chmod -R u+w "$$scratch" && rm -rf "$$scratch"' EXIT && \
	for cgo in 1 0; do \
		started=$$(date +%s); \
		CGO_ENABLED=$$cgo GOCACHE="$$scratch/$$cgo" $(GO) build -trimpath -ldflags='-s -w' -o "$$scratch/kubeagents" . || exit 1; \
		echo "CGO_ENABLED=$$cgo: $$(wc -c <"$$scratch/kubeagents") bytes, built in $$(($$(date +%s) - started)) s"; \
	done

platforms: ## build and vet the program for each of PLATFORMS, without cgo, and print the size of each binary
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	for platform in $(PLATFORMS); do \
		started=$$(date +%s); \
		export CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		$(GO) build -trimpath -ldflags='-s -w' -o "$$scratch/kubeagents" . && $(GO) vet -trimpath ./... || exit 1; \
		echo "$$platform: $$(wc -c <"$$scratch/kubeagents") bytes, built and vetted in $$(($$(date +%s) - started)) s"; \
	done

release: ## build archives, packages and checksums of a release for all platforms into dist, without publishing them
	CGO_ENABLED=0 $(GO) run $(GORELEASER) release --snapshot --clean

test-release: ## test a release for this platform, and its package with systemd (on Debian, systemd-container; needs root)
	KUBEAGENTS_RELEASE=1 $(GO) test ./internal/e2e -count=1 -run 'TestRelease|TestUnit' -v -timeout 20m

image: ## build the container images of the server and the watcher as OCI layouts in bin, and test them (needs root to run them)
	@commit=$$(git rev-parse HEAD) && version=$$(git describe --tags --always) && created=$$(git log -1 --format=%cI) && bin=$$PWD/bin && \
	image() { \
		program=$$1 && layout=$$2 && folder=$$3 && variables=$$4 && \
		for arch in amd64 arm64; do \
			(cd "$$folder" && CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=false \
				-o "$$bin/linux-$$arch/$$program" -ldflags="-s -w $$variables" .) || return 1; \
		done && \
		(cd deploy/image && $(GO) run . -program "$$program" -out "$$layout" -version "$$version" -commit "$$commit" -created "$$created" \
			amd64="$$bin/linux-amd64/$$program" arm64="$$bin/linux-arm64/$$program"); \
	} && \
	image kubeagents "$$bin/image" . "-X $(VERSION_PACKAGE).release=$$version -X $(VERSION_PACKAGE).commit=$$commit" && \
	image kubeagents-watcher "$$bin/image-watcher" deploy/watcher "-X main.release=$$version" && \
	cd deploy/image && $(GO) vet . && \
	KUBEAGENTS_IMAGE="$$bin/image" KUBEAGENTS_WATCHER_IMAGE="$$bin/image-watcher" $(GO) test -count=1 -v .

cluster: ## build a Kubernetes control plane for tests into bin/cluster (takes minutes, once)
	cd deploy/cluster && version=$$($(GO) list -m -f '{{.Version}}' k8s.io/kubernetes) && \
	$(GO) build -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$$version" -o ../../bin/cluster .

test-cluster: cluster ## test that control plane, and that it accepts the recorded statuses of Pods and Jobs
	cd deploy/cluster && $(GO) vet ./... && KUBEAGENTS_CLUSTER="$$PWD/../../bin/cluster" $(GO) test -count=1 -parallel 32 -v ./internal/e2e

build: ## build the program into bin/kubeagents, as a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/kubeagents .
