# One command each: build, demo, test, race, lint, bench; deps installs what
# integration tests want besides Go and a C compiler.

SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

# The build tags that the libraries need, here and nowhere else: the resolver
# and user lookups in Go, so that static binaries need no C library at run
# time, SQLite without loadable extensions, and BitTorrent without a second SQLite
# and without uTP, which is C.
TAGS := osusergo,netgo,sqlite_omit_load_extension,nosqlite,disable_libutp

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X stork/repo.Version=$(VERSION)
GO      := go
BIN     := $(CURDIR)/bin

.PHONY: build build-sqlite build-static build-nestd demo test race lint bench fuzz deps deps-kernel clean

# SQLite is half of a first build, and does not limit nestd, which waits for
# the disk: so it is compiled without the costly optimizations and debugging
# symbols, and at the same time as all that is in Go.
export CGO_CFLAGS := -O1

build:
	@$(MAKE) --no-print-directory -j2 build-sqlite build-static
	@$(MAKE) --no-print-directory build-nestd

build-sqlite:
	CGO_ENABLED=1 $(GO) build -trimpath -tags $(TAGS) github.com/mattn/go-sqlite3

build-static:
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/ \
		./client/cmd/stork ./client/cmd/stork-guest ./repo/cmd/stork-repo ./tools/cmd/stork-testbed ./tools/cmd/stork-bench

build-nestd:
	CGO_ENABLED=1 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/ ./nestd/cmd/nestd

demo: build
	$(BIN)/stork-bench demo

test: build
	STORK_BIN=$(BIN) $(GO) test -tags $(TAGS) -timeout 20m ./...

race: build
	STORK_BIN=$(BIN) $(GO) test -race -tags $(TAGS) -timeout 40m ./...

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet -tags $(TAGS) ./...
	$(GO) test -tags $(TAGS) -count=1 ./tools/lint

bench: build
	$(BIN)/stork-bench all --write docs/performance.md

# Every fuzz target for a short while; FUZZTIME=10m for a long one.
FUZZTIME ?= 10s
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -tags $(TAGS) -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$pkg; \
		done; \
	done

deps:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		rpm dnf createrepo-c systemd-container iproute2 attr e2fsprogs libcap2-bin \
		lxc podman crun acl bubblewrap uidmap jq libsolv-tools xz-utils zstd python3-minimal \
		util-linux-extra qemu-system-x86 busybox-static aria2 transmission-cli
	@$(MAKE) --no-print-directory deps-kernel

# The kernel that the test of a virtual machine boots: unpacked, not installed,
# for it is not this machine's.
TEST_KERNEL := /usr/local/lib/stork-test/kernel

deps-kernel:
	test "$$(dpkg --print-architecture)" = amd64 || exit 0; \
	dir=$$(mktemp -d); chmod 755 $$dir; cd $$dir; \
	apt-get download -qq "$$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)"; \
	rm -rf $(TEST_KERNEL); mkdir -p $(TEST_KERNEL); \
	dpkg-deb -x linux-image-*.deb $(TEST_KERNEL); \
	rm -rf $$dir

clean:
	rm -rf $(BIN)
