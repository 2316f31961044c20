#!/bin/sh
# Builds and tests ebb; does all its own set-up on a fresh Debian 12.
#
#     tests/run.sh [--quick] [NAME…]
#
# --quick  unit tests, short engine tests and the bare-metal guest, from one build: about two minutes
# NAME…    only tests whose name contains one of these (as ctest -R has it), from the release build
#
# Everything else: builds with gcc (release, asan, tsan) and clang, warnings as errors; unit, engine
# and bare-guest tests and a sample of host faults with ASan and UBSan, engine tests with TSan, each
# fuzz target for a few seconds (EBB_FUZZ_SECONDS), and everything with the release build, stock Linux
# guests and two minutes of tests/soak.sh (EBB_SOAK_SECONDS) included; tests/static.sh reads the source.
# A test that needs what this host lacks is skipped and says why; with CI=true it fails instead. Build
# directories are in build/, or in $EBB_BUILD_ROOT.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
builds=${EBB_BUILD_ROOT:-$root/build}
quick=no
names=

for argument; do
	case $argument in
	--quick) quick=yes ;;
	-h | --help)
		sed -n '2,14s/^# \{0,1\}//p' "$0"
		exit 0
		;;
	-*)
		echo "run.sh: no such option: $argument" >&2
		exit 2
		;;
	*) names=$names${names:+|}$argument ;;
	esac
done

. "$root/guest-images/packages.sh"
install_packages $EBB_BUILD_PACKAGES $EBB_TEST_PACKAGES

jobs=$(nproc)
target=
results=

say() {
	printf '\n== %s\n' "$*"
}

# build PRESET DIRECTORY [OPTION…]: all of it, or $target alone
build() {
	preset=$1 directory=$2
	shift 2
	say "build $(basename "$directory")"
	cmake -S "$root" --preset "$preset" -B "$directory" -DEBB_WERROR=ON \
		-DEBB_GUEST_IMAGES="$builds/guest-images" "$@" >"$builds/configure.log" 2>&1 || {
		cat "$builds/configure.log"
		exit 1
	}
	cmake --build "$directory" -j "$jobs" ${target:+--target "$target"} |
		grep -E 'warning:|error:|FAILED' || true
	cmake --build "$directory" -j "$jobs" ${target:+--target "$target"} >/dev/null
}

# run_tests DIRECTORY OPTION…: their failures are remembered, the others still run.
run_tests() {
	directory=$1
	shift
	say "test $(basename "$directory")"
	if "$root/tests/report.py" "$directory" --no-tests=error -j "$jobs" "$@"; then
		results="$results$(basename "$directory"):passed "
	else
		results="$results$(basename "$directory"):FAILED "
	fi
}

# What the source's readers say is remembered like a failed test. Left out is the one that takes longer
# than all the others together.
check_source() {
	say "read the source"
	install_packages $EBB_STATIC_PACKAGES
	if "$root/tests/static.sh" "$builds/release" clang-tidy cppcheck analyzer; then
		results="${results}static:passed "
	else
		results="${results}static:FAILED "
	fi
}

# The last run's output ends the script's; what was before is summed up above it.
finish() {
	case $results in
	*FAILED*) exit 1 ;;
	esac
	exit 0
}

# Nothing outlives the script.
clean_up() {
	for directory in "$builds"/*/; do
		if [ -e "$directory/CTestTestfile.cmake" ]; then
			ctest --test-dir "$directory" -Q -R '^guest-images/hostvm-stop$' >/dev/null 2>&1 || true
		fi
	done
}

mkdir -p "$builds"
trap 'exit 1' INT TERM HUP
trap clean_up EXIT

if [ "$quick" = yes ] && [ -z "$names" ]; then
	build release "$builds/release"
	run_tests "$builds/release" -L '^(unit|fuzz|engine|guest-bare)$'
	finish
fi

if [ -n "$names" ]; then
	build release "$builds/release"
	run_tests "$builds/release" -R "$names"
	finish
fi

# How long the storm of random operations lasts; it is short otherwise.
EBB_STORM_SECONDS=${EBB_STORM_SECONDS:-30}
export EBB_STORM_SECONDS

build asan "$builds/asan"
run_tests "$builds/asan" -L '^(unit|fuzz|engine|guest-bare|faults)$'
build tsan "$builds/tsan"
run_tests "$builds/tsan" -L '^engine$'
target=fuzzers
build fuzz "$builds/fuzz" -DEBB_FUZZ_SECONDS="${EBB_FUZZ_SECONDS:-4}"
target=
run_tests "$builds/fuzz" -L '^fuzz$'
CC=clang build release "$builds/clang"
run_tests "$builds/clang" -L '^unit$'
build release "$builds/release"
check_source

before=$results
say "so far: ${before:-nothing}"
run_tests "$builds/release"
finish
