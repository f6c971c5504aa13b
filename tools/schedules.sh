#!/usr/bin/env bash
# Runs every test that draws random schedules, and only those, with the given flags of the rapid library, for example
#   tools/schedules.sh -rapid.checks=10000 -rapid.seed=7
# Only the test binaries of packages that use the library know its flags, so they are looked for in the sources.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t files < <(grep -rl --include='*_test.go' '"pgregory.net/rapid"' .)
if [ "${#files[@]}" -eq 0 ]; then
	echo "no test draws random schedules" >&2
	exit 1
fi
mapfile -t dirs < <(printf '%s\n' "${files[@]}" | xargs -n1 dirname | sort -u)
names=$(grep -ohE '^func Test[A-Za-z0-9_]+' "${files[@]}" | cut -c6- | sort -u | paste -sd '|')
exec "${GO:-go}" test -count=1 -timeout 60m -run "^($names)\$" "${dirs[@]}" "$@"
