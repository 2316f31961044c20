#!/bin/sh
# Looks for inputs that break ebb, and says how much of the code they reach.
#
#     tests/fuzz/fuzz.sh [--seconds N] [--keep] [TARGET…]
#
# --seconds N  for each target (60)
# --keep       adds what was found to the committed inputs, as few as reach the same
#
# Two run at a time. A crash leaves its input in build/fuzz/tests/fuzz/crash-TARGET-*; run
# build/fuzz/tests/fuzz/fuzz_TARGET FILE to see it again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
builds=${EBB_BUILD_ROOT:-$root/build}
seconds=60
keep=no
targets=

while [ $# -gt 0 ]; do
	case $1 in
	--seconds) seconds=${2:?how many?} && shift ;;
	--keep) keep=yes ;;
	-*)
		sed -n '2,11s/^# \{0,1\}//p' "$0"
		exit 2
		;;
	*) targets=$targets${targets:+|}$1 ;;
	esac
	shift
done

cmake -S "$root" --preset fuzz -B "$builds/fuzz" -DEBB_FUZZ_SECONDS="$seconds" >/dev/null
cmake --build "$builds/fuzz" --target fuzzers
failed=no
ctest --test-dir "$builds/fuzz" -L '^fuzz$' ${targets:+-R "fuzz/($targets)\$"} -j2 --output-on-failure ||
	failed=yes

if [ "$keep" = yes ]; then
	for corpus in "$here"/corpus/*/; do
		target=$(basename "$corpus")
		new=$builds/fuzz/tests/fuzz/new/$target
		[ -d "$new" ] && "$builds/fuzz/tests/fuzz/fuzz_$target" -merge=1 -use_counters=0 -max_len=512 "$corpus" "$new" \
			>/dev/null 2>&1
	done
fi

cmake -S "$root" --preset release -B "$builds/coverage" -DEBB_COVERAGE=ON >/dev/null
cmake --build "$builds/coverage" --target fuzzers >/dev/null
"$here/coverage.py" "$builds/coverage" "$here/corpus" "$builds/fuzz/tests/fuzz/new"
[ "$failed" = no ]
