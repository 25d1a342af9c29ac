# make help lists the targets. Everything is built with the tag duckdb_arrow.
SHELL := /bin/bash
GO ?= go
TAGS := duckdb_arrow
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TORTURE_ROUNDS ?= 200

.PHONY: help run plugins build test race bench lint torture docs check-tools check-room

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1 \2/p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

run: build ## build, serve on 127.0.0.1:8080 from ./data, and make a sample project
	@scripts/run

plugins: ## build the built-in plugins, which `make build` embeds
	scripts/build-plugins

build: check-tools plugins ## build bin/eider, its plugins within
	$(GO) build -tags $(TAGS) -ldflags "-X main.version=$(VERSION)" -o bin/eider ./cmd/eider

test: check-tools check-room lint ## everything: linters, unit, integration, end to end, the kernel under -race
	scripts/check-generated
	$(GO) test -tags $(TAGS) -timeout 40m ./...
	$(GO) test -tags $(TAGS) -race -timeout 40m ./core/metadata/... ./core/operation/... ./core/audit/... ./core/usage/... ./core/policy/... ./core/job/... ./core/blob/... ./core/web/... ./core/wasm/...
	@echo "make test: all of it passed"

lint: check-tools ## gofmt, vet, and staticcheck and govulncheck where they can be reached
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet -tags $(TAGS) ./...
	@scripts/staticcheck $(STATICCHECK) $(TAGS)
	@scripts/vulncheck $(GOVULNCHECK) $(TAGS)

bench: check-tools ## print the benchmark table (some minutes)
	$(GO) run -tags $(TAGS) ./bench

torture: check-tools ## kill -9 in a loop, TORTURE_ROUNDS rounds (200)
	EIDER_TORTURE_ROUNDS=$(TORTURE_ROUNDS) EIDER_TORTURE_FILE_MIB=2048 $(GO) test -tags $(TAGS) -timeout 60m -count=1 -v -run 'TestKilled|TestMemory|TestUploadsAtOnce|TestAKilledServer' ./cmd/eider

docs: build ## write what is generated: docs/openapi.json, configs/eider.yaml
	scripts/generate

check-room:
	@scripts/check-room

check-tools:
	@scripts/check-tools
