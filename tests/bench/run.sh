#!/bin/sh
# Measures ebb's swap engine against the host's own means, in one run.
#
#     tests/bench/run.sh [OPTION…]
#
# --quick              smallest sizes, one round: does it work? Under a minute
# --sizes 256M,1G,…    sizes of guest memory (default: 256M to 8G as memory allows)
# --size SIZE          the same with one size
# --only PART,…        enable out faults busy in second growth guest; one round unless --rounds
# --stores NAME,…      file none zstd pool pool-encrypted; the ways to store pages
# --no-references      leaves out what ebb is compared with
# --rounds N           repeats of everything, of which the medians count (default 3)
# --mix zero=15,text=15,code=20,heap=40,random=10
# --contents FILE      memory contents from a file instead
# --swap-dir DIR       where the store and the swap file of the host's kernel go (default /var/tmp)
# --out DIR            results.json and results.svg (default: bench-results in the build directory)
# --build DIR          an existing build directory (default: builds the release preset)
#
# Prints a table. Swap on the host and dropping its caches need root; without, these are left out
# and the reason is said. The exit status tells whether it could measure, not whether it was fast.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
build=
out=
previous=
case ${1-} in
-h | --help)
	sed -n '2,21s/^# \{0,1\}//p' "$0"
	exit 0
	;;
esac
for argument; do
	case $previous in
	--build) build=$argument ;;
	--out) out=$argument ;;
	esac
	case $argument in
	--build=*) build=${argument#*=} ;;
	--out=*) out=${argument#*=} ;;
	esac
	previous=$argument
done

if [ -z "$build" ]; then
	. "$root/guest-images/packages.sh"
	install_packages $EBB_BUILD_PACKAGES $EBB_TEST_PACKAGES
	build=${EBB_BUILD_ROOT:-$root/build}/release
	cmake -S "$root" --preset release -B "$build" >/dev/null
	cmake --build "$build" -j "$(nproc)" >/dev/null
	set -- "$@" --build "$build"
fi
[ -n "$out" ] || set -- "$@" --out "$build/bench-results"
exec python3 "$root/tests/bench/bench.py" "$@"
