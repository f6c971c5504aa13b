#!/usr/bin/env bash
# Runs every check of the project, one named step after the other, and ends with a summary: what passed, what failed,
# and what could not run here. A failed step does not stop the later ones; the exit status is 0 only when none failed.
# The only network it may need is the Go module proxy.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

GO=${GO:-go}
CHECKS=${CI_CHECKS:-500}
SEEDS=${CI_SEEDS:-3000}
# The gate gives the same answer for the same tree, whatever the commit is called; fresh seeds are what `make sim` is for.
export PHYSALIA_SEED=${CI_SEED:-20261122}
summary=()
failed=0
began=$SECONDS

# step NAME COMMAND...: runs the command, prints its name and time, and notes the verdict.
step() {
	local name=$1 from=$SECONDS verdict=pass
	shift
	printf '\n==> %s\n' "$name"
	"$@" || { verdict=FAIL; failed=$((failed + 1)); }
	summary+=("$(printf '%-9s %5ds  %s' "$verdict" "$((SECONDS - from))" "$name")")
	printf '<== %s: %s after %d s\n' "$name" "$verdict" "$((SECONDS - from))"
}

# cannot NAME REASON: says loudly that a step did not run.
cannot() {
	summary+=("$(printf '%-9s %5s   %s' 'NOT RUN' '-' "$1: $2")")
	printf '\n!!! NOT RUN: %s: %s\n' "$1" "$2" >&2
}

# packages_with TEXT: the directories whose test files contain TEXT.
packages_with() {
	grep -rlE --include='*_test.go' "$1" . | xargs -r -n1 dirname | sort -u
}

gofmt_clean() {
	local dirty
	dirty=$(gofmt -l .)
	[ -z "$dirty" ] || { printf 'not formatted, run "make fmt":\n%s\n' "$dirty"; return 1; }
}

modules() {
	"$GO" mod tidy -diff && "$GO" mod verify
}

costly() {
	local dirs=() d
	for d in paxos cell node; do [ -d "$d" ] && dirs+=("./$d/..."); done
	"$GO" test -tags costly "${dirs[@]}"
}

properties() {
	echo "seed $PHYSALIA_SEED, $CHECKS schedules each"
	bash tools/schedules.sh -rapid.checks="$CHECKS"
}

# A world is a function of its seed: the fingerprint of a run is that of all its worlds' traces.
worlds() {
	make -s build && bin/physalia sim run --seeds "$SEEDS" --require-coverage
}

twice() {
	local one two
	one=$(bin/physalia sim run --seeds 200 | grep '^fingerprint') && two=$(bin/physalia sim run --seeds 200 --workers 1 | grep '^fingerprint') || return 1
	printf '%s\n%s\n' "$one" "$two"
	[ "$one" = "$two" ]
}

# Package paxos and the worlds of package sim run on one goroutine, so their many schedules teach the race detector nothing;
# 50 seeds under it, several worlds at a time, follow. `make race` leaves nothing out.
races() {
	local dirs
	mapfile -t dirs < <("$GO" list ./... | grep -vE '/(paxos|sim)$')
	"$GO" test -race "${dirs[@]}"
}

golden() {
	local dirs
	mapfile -t dirs < <(packages_with '^func TestGolden')
	"$GO" test -count=1 -run 'TestGolden' "${dirs[@]}"
}

# Seeds and committed corpora of all fuzz targets; `make fuzz` goes beyond them.
corpora() {
	local dirs
	mapfile -t dirs < <(packages_with '^func Fuzz')
	GOMEMLIMIT=1GiB "$GO" test -count=1 -run '^Fuzz' "${dirs[@]}"
}

# Why the privileged fault tests cannot run here; nothing where they can.
faults_lack() {
	"$GO" test -count=1 -tags privileged -v -run '^$' ./cmd/physalia/faults 2>&1 | sed -n 's/^!!! NOT RUN: privileged fault tests: //p'
}

step "gofmt" gofmt_clean
step "go vet" "$GO" vet ./...
step "go vet -tags costly" "$GO" vet -tags costly ./...
step "go vet -tags privileged" "$GO" vet -tags privileged ./cmd/physalia/...
step "go vet -tags poison" "$GO" vet -tags poison ./cell/machine ./cmd/physalia/...
step "go vet -tags nextversion" "$GO" vet -tags nextversion ./internal/wire ./node/... ./cmd/physalia/...
step "staticcheck" "$GO" tool -modfile=tools/go.mod staticcheck ./...
step "staticcheck -tags privileged" "$GO" tool -modfile=tools/go.mod staticcheck -tags privileged ./cmd/physalia/faults
step "modules: tidy, and as go.sum knows them" modules
step "etcd, for the tests of the shared store" make etcd
step "house: arrows, budgets, hygiene" "$GO" test -count=1 ./internal/house/...
step "make test, planted bugs included" make test
step "tests with costly assertions" costly
if [ -n "$(packages_with 'pgregory.net/rapid')" ]; then
	step "random schedules, seeded" properties
else
	cannot "random schedules" "no test draws any"
fi
step "simulated colonies: $SEEDS seeds, every field of the fault space" worlds
step "200 seeds twice: the same worlds" twice
if [ -n "$(packages_with '^func TestGolden')" ]; then
	step "golden bytes" golden
else
	cannot "golden bytes" "no test named TestGolden..."
fi
step "fuzz targets: seeds and corpora" corpora
if [ "$("$GO" env CGO_ENABLED)" = 1 ] && command -v "$("$GO" env CC | cut -d' ' -f1)" >/dev/null; then
	step "race detector" races
	step "50 seeds under the race detector" "$GO" run -race ./cmd/physalia sim run --seeds 50
else
	cannot "race detector" "no C compiler (go env CC: $("$GO" env CC)), or CGO_ENABLED=0"
fi

lack=$(faults_lack)
if [ -z "$lack" ]; then
	step "privileged fault tests" make faults
else
	cannot "privileged fault tests" "$lack"
fi

printf '\n==== summary, %d s ====\n' "$((SECONDS - began))"
printf '%s\n' "${summary[@]}"
if [ "$failed" -gt 0 ]; then
	printf '\n%d step(s) failed\n' "$failed"
	exit 1
fi
printf '\nno step failed\n'
