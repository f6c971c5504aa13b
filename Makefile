# Physalia. A bare `make` prints this menu; every target is one line of help behind "##".

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)
DURATION ?= 30s
CHECKS   ?= 10000
PEERS    ?= bin/peers
SEED     ?= 1

.DEFAULT_GOAL := help
.PHONY: help build release profile demo drill etcd test faults race fmt fuzz vet lint deep sim lab bench bench-peers vet-peers ci clean

help: ## print this menu
	@echo "Physalia: one tiny, highly available database per volume."
	@echo
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo
	@echo "  Needed: Go 1.26 and make. With a C compiler, \`make race\` and \`make ci\` also run the race detector."

build: ## build the one binary, bin/physalia
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/physalia ./cmd/physalia

release: ## build bin/physalia for servers in earnest: guided by a profile, 7 % less processor time per write, minutes longer to build
	$(GO) build -trimpath -pgo=cmd/physalia/servers.pgo -ldflags '$(LDFLAGS)' -o bin/physalia ./cmd/physalia
	bash tools/large-pieces.sh bin/physalia

profile: ## record the profile of `make release` anew, cmd/physalia/servers.pgo, on a quiet machine (a minute)
	rm -rf bin/profile && mkdir -p bin/profile
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/physalia ./cmd/physalia
	bin/physalia bench --profile bin/profile
	$(GO) tool pprof -proto -output cmd/physalia/servers.pgo bin/profile/*.pprof

demo: build ## run a colony on this machine, kill parts of it, verify it (DURATION=30s)
	bin/physalia demo --duration $(DURATION)

drill: build ## game days, small: lose the control plane, its store, servers and a rack, and verify that nothing else is lost
	bin/physalia drill chaos --cells 300
	bin/physalia drill static --span 6s
	bin/physalia drill amnesia --cells 30
	bin/physalia drill jump
	bin/physalia drill repair --cells 30
	bin/physalia drill discovery
	bin/physalia drill burst
	bin/physalia drill upgrade

etcd: ## build the etcd server that tests run, bin/etcd, at the version pinned in tools/etcd/go.mod (a minute or two, once)
	GO='$(GO)' bash tools/etcd.sh

test: etcd ## every test that needs no privileges, that planted bugs are found, and trials of builds that fall over or are of another version
	$(GO) test ./...
	$(GO) test -tags planted -run Planted ./paxos ./sim ./sim/blockstore
	$(GO) test -tags poison -run Special ./cmd/physalia

faults: ## real processes under real accidents: networks, disks, kills (Linux, root; docs/faults.md)
	$(GO) test -count=1 -timeout 10m -tags privileged -v ./cmd/physalia/faults -args -require

race: ## the same tests under the race detector (needs a C compiler)
	$(GO) test -race ./...

fmt: ## rewrite the sources with gofmt
	gofmt -w $$($(GO) list -f '{{.Dir}}' ./...)

fuzz: ## every fuzz target for a while, in bounded memory (FUZZTIME=3s, FUZZ=pattern of names; the first time it compiles for minutes)
	GO='$(GO)' bash tools/fuzz.sh

vet: ## go vet, with and without the costly assertions
	$(GO) vet ./...
	$(GO) vet -tags costly ./...

lint: ## static analysis, at the version pinned in tools/go.mod
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

deep: ## the enumerated schedules of the protocol, further than in `make test` (many minutes, gigabytes)
	$(GO) test -run TestEverySchedule -deep -v -timeout 120m ./paxos

sim: build ## random schedules of the protocol and simulated colonies, more of them than in `make test` (CHECKS=10000)
	GO='$(GO)' bash tools/schedules.sh -rapid.checks=$(CHECKS)
	bin/physalia sim run --seeds $(CHECKS)

lab: build ## the laboratory's report, bin/lab/index.html: what correlated failures do to cells (SEED=1; docs/laboratory.md)
	bin/physalia lab report --out bin/lab --seed $(SEED)

bench: release ## throughput and latency of seven real server processes
	bin/physalia bench --cells 1000 --clients 224 --duration 10s

bench-peers: release etcd ## the same work on this project, etcd and two Raft libraries (hours; QUICK=1: ten minutes; PEERS=directory on the disk that is meant)
	cd bench && $(GO) build -o ../bin/bench-peers .
	bash tools/large-pieces.sh bin/etcd bin/bench-peers
	bin/bench-peers -version '$(VERSION)' -dir $(PEERS) $(if $(QUICK),-quick) $(ARGS)

vet-peers: ## vet and test the module of `make bench-peers`, which nothing else builds
	cd bench && $(GO) vet ./... && $(GO) test ./...

ci: ## all checks, with times and a summary of what ran and what could not
	@bash tools/ci.sh

clean: ## remove what was built
	rm -rf bin
