#!/bin/sh
# Random operations on several guests at once, while their memory and disks are verified all the time.
#
#     tests/soak.sh [--minutes N] [--seed S] [--bare N] [--linux N] [--only GUEST] [--processors N]
#
# --minutes N     how long (2)
# --seed S        the same seed gives each guest the same operations; without it, one is drawn and
#                 printed. Timing is no part of it
# --bare N        guests with the bare payload, on /dev/kvm (4)
# --linux N       stock Linux guests (0), in the host VM where /dev/kvm runs no stock kernels
# --only GUEST    just this one of them, say bare2
# --processors N  uses only so many of this host's
#
# Swap operations in every order and at once, cancelled, by clients that go away, by the policy; fills,
# a second vCPU that writes, balloon, free page reports, disks, packets, vsock, resets, pauses, restarts with
# other options, stores that fill up, SIGSTOP, metrics, followers of events. After each: ebb lives, its
# state is that of a model, page counts sum up, nothing is leaked. Exit status: 0; 1, with the last
# operations and what was said, if anything is wrong; 77 if this host cannot.
#
# EBB_BINARY and EBB_IMAGES say what to run; without them the release build is made. EBB_SOAK_SECONDS
# is the time without --minutes.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)

case ${1-} in
-h | --help)
	sed -n '2,23s/^# \{0,1\}//p' "$0"
	exit 0
	;;
esac

builds=${EBB_BUILD_ROOT:-$root/build}
. "$root/guest-images/packages.sh"
if [ -z "${EBB_BINARY-}" ]; then
	install_packages $EBB_BUILD_PACKAGES $EBB_TEST_PACKAGES
	cmake -S "$root" --preset release -B "$builds/release" >/dev/null
	cmake --build "$builds/release" -j "$(nproc)" --target ebb >/dev/null
	EBB_BINARY=$builds/release/vmm/ebb
fi
if [ -z "${EBB_IMAGES-}" ]; then
	EBB_IMAGES=$builds/guest-images
	parts=bare
	case " $*" in
	*" --linux"*)
		install_packages $EBB_SOAK_PACKAGES
		parts="bare linux soak hostvm"
		;;
	esac
	for part in $parts; do
		"$root/guest-images/build.sh" "$part" "$EBB_IMAGES"
	done
fi
: "${EBB_HOSTVM_STATE:=/tmp/ebb-hostvm-soak-$(id -u)}"
export EBB_BINARY EBB_IMAGES EBB_HOSTVM_STATE

exec python3 -W ignore::ResourceWarning "$root/tests/guest/soak.py" "$@"
