#!/bin/sh
# Builds the guests that tests and the demo run.
#
#     build.sh [bare|linux|soak|hostvm|debian|all] OUTDIR
#
#     OUTDIR/bare.elf        the bare-metal payload (PVH)
#     OUTDIR/bzImage         stock Debian kernel (symbolic link to fetch-kernel.sh's cache)
#     OUTDIR/vmlinux         the same as ELF
#     OUTDIR/initramfs       busybox, modules and the test agent
#     OUTDIR/initramfs-soak  the same with stress-ng and memtester, for tests/soak.sh; not in `all`
#     OUTDIR/hostvm/         kernel and initramfs of the host VM
#     OUTDIR/debian.raw      a small disk made by debian.sh, for tests; `all` leaves it out
#
# Only what changed is built again.
set -eu

what=${1:?what to build: bare, linux, soak, hostvm, debian or all}
out=${2:?where to: OUTDIR}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

mkdir -p "$out"
out=$(cd "$out" && pwd)
export here root out

case $what in
bare | linux | soak | hostvm | debian) parts=$what ;;
all) parts="bare linux hostvm" ;;
*)
	echo "build.sh: no such guest: $what (bare, linux, soak, hostvm, debian or all)" >&2
	exit 2
	;;
esac
for part in $parts; do
	make -s -C "$here" -f "$here/Makefile" "$part"
done
