#!/bin/sh
# Looks for inputs that break ebb, and ends with a table: how often each target was executed and how
# often an input broke it, how many lines and branches of the code that it is about are reached.
#
#     tests/fuzz/fuzz.sh [--seconds N] [--jobs N] [--keep] [--missing] [TARGET…]
#
# --seconds N  for each target (60)
# --jobs N     so many at a time (2)
# --keep       adds what was found to the committed inputs, as few as reach the same
# --missing    names the lines that are not reached
#
# A crash leaves its input in build/fuzz/tests/fuzz/crash-TARGET-*; run
# build/fuzz/tests/fuzz/fuzz_TARGET FILE to see it again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
builds=${EBB_BUILD_ROOT:-$root/build}
seconds=60
jobs=2
keep=no
missing=
targets=

while [ $# -gt 0 ]; do
	case $1 in
	--seconds) seconds=${2:?how many?} && shift ;;
	--jobs) jobs=${2:?how many?} && shift ;;
	--keep) keep=yes ;;
	--missing) missing=--missing ;;
	-*)
		sed -n '2,14s/^# \{0,1\}//p' "$0"
		exit 2
		;;
	*) targets=$targets${targets:+|}$1 ;;
	esac
	shift
done

cmake -S "$root" --preset fuzz -B "$builds/fuzz" -DEBB_FUZZ_SECONDS="$seconds" >/dev/null
cmake --build "$builds/fuzz" --target fuzzers
failed=no
ctest --test-dir "$builds/fuzz" -L '^fuzz$' ${targets:+-R "fuzz/($targets)\$"} -j"$jobs" --output-on-failure ||
	failed=yes

if [ "$keep" = yes ]; then
	for corpus in "$here"/corpus/*/; do
		target=$(basename "$corpus")
		new=$builds/fuzz/tests/fuzz/new/$target
		[ -d "$new" ] || continue
		"$builds/fuzz/tests/fuzz/fuzz_$target" -merge=1 -use_counters=0 -max_len=2048 "$corpus" "$new" \
			>/dev/null 2>&1
	done
fi

cmake -S "$root" --preset release -B "$builds/coverage" -DEBB_COVERAGE=ON >/dev/null
cmake --build "$builds/coverage" --target fuzzers >/dev/null
only=$(printf '%s' "$targets" | tr '|' '\n' | sed 's/^/--target=/')
# shellcheck disable=SC2086 # words
"$here/coverage.py" --log "$builds/fuzz/Testing/Temporary/LastTest.log" $missing $only \
	"$builds/coverage" "$here/corpus" "$builds/fuzz/tests/fuzz/new"
[ "$failed" = no ]
