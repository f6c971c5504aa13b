#!/usr/bin/env bash
# Runs every fuzz target for a while, one after the other (FUZZTIME, each; default 3s), with bounded memory: Go's own limit, and the
# system's on the address space, so that a decoder that believes a length ends as a failure here and not as a machine without memory.
# `go test` plays the seeds and the committed corpora (testdata/fuzz) in any case. FUZZ=PATTERN chooses targets by name.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

GO=${GO:-go}
FUZZTIME=${FUZZTIME:-3s}
export GOMEMLIMIT=${GOMEMLIMIT:-1GiB}
failed=0 count=0
while IFS=: read -r file target; do
	dir=./$(dirname "$file")
	count=$((count + 1))
	# The address space holds Go's arenas and the fuzzer's shared memory, which is more than it uses.
	if ! out=$( (ulimit -v $((12 << 20)) && "$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 5s -parallel 2 "$dir") 2>&1); then
		failed=$((failed + 1))
		printf '%s\nFAIL %s %s\n' "$out" "$dir" "$target"
		continue
	fi
	printf 'ok   %-26s %-18s %s\n' "$dir" "$target" "$(grep -o 'execs: [0-9]*' <<<"$out" | tail -1)"
done < <(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z]*' . --exclude-dir=bench | sed -E 's/^\.\///; s/func //' | grep -E "${FUZZ:-.}" | sort)
printf '%d fuzz targets, %d failed\n' "$count" "$failed"
[ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
