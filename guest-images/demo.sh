#!/bin/sh
# Shows what ebb does: boots stock Linux, lets it work, swaps it out, wakes it.
#
#     guest-images/demo.sh                  memory before and after, as the host's /proc tells it
#     guest-images/demo.sh --interactive    a shell in the guest; Ctrl-A c opens the console
#
# Does all its own set-up on a fresh Debian 12, as root or by sudo: packages, build, guest. Where this
# host's KVM cannot run a stock kernel, everything runs in a host VM that qemu emulates (slow).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
builds=${EBB_BUILD_ROOT:-$root/build}
mode=

case ${1:-} in
'') ;;
--interactive) mode=--interactive ;;
*)
	sed -n '2,8s/^# \{0,1\}//p' "$0"
	[ "$1" = --help ] || [ "$1" = -h ] && exit 0
	exit 2
	;;
esac

if [ -n "$mode" ] && ! [ -t 0 ]; then
	echo "demo.sh: --interactive needs a terminal" >&2
	exit 2
fi

. "$root/guest-images/packages.sh"
install_packages $EBB_BUILD_PACKAGES $EBB_TEST_PACKAGES

mkdir -p "$builds"
echo "building ebb and the guest..."
{
	cmake -S "$root" --preset release -B "$builds/demo" -DEBB_TESTS=OFF
	cmake --build "$builds/demo" -j "$(nproc)"
} >"$builds/demo.log" 2>&1 || {
	tail -n 30 "$builds/demo.log"
	exit 1
}
"$root/guest-images/build.sh" linux "$builds/guest-images"

EBB_BINARY=$builds/demo/vmm/ebb
EBB_IMAGES=$builds/guest-images
export EBB_BINARY EBB_IMAGES

case $("$EBB_BINARY" check --json || true) in
*'"stock_kernels":true'*)
	case $("$EBB_BINARY" check --json || true) in
	*'"can_swap":true'*) ;;
	*)
		"$EBB_BINARY" check
		exit 1
		;;
	esac
	exec python3 "$root/guest-images/demo.py" $mode
	;;
esac

echo "this host's KVM runs no stock kernel (see: ebb check); starting a host VM, emulated by qemu..."
"$root/guest-images/build.sh" hostvm "$builds/guest-images"
state=$(mktemp -d /tmp/ebb-demo-XXXXXX)
hostvm=$root/guest-images/hostvm/hostvm.py
trap 'python3 "$hostvm" stop --state "$state"; rm -rf "$state"' EXIT
trap 'exit 1' INT TERM HUP
python3 "$hostvm" start --images "$builds/guest-images" --state "$state"
python3 "$hostvm" run --state "$state" ${mode:+--tty} --env EBB_IN_HOSTVM=1 -- \
	"$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')" -S \
	"$root/guest-images/demo.py" $mode
