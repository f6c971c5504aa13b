#!/usr/bin/env bash
# Writes programs anew, 2 MiB at a time: where the file system keeps files in large folios (ext4 since Linux 6.16, XFS), the page cache then has
# them in huge pages, and processes map their code as such. Elsewhere it changes nothing. See docs/decisions/0048.
set -euo pipefail

for program in "$@"; do
	new=$(mktemp "$program.XXXXXX")
	trap 'rm -f "$new"' EXIT
	dd if="$program" of="$new" bs=2097152 status=none
	chmod 755 "$new"
	mv -f "$new" "$program"
done
