#!/bin/sh
# Fetches a stock Debian kernel without installing it.
#
#     fetch-kernel.sh [cloud|generic] [DIRECTORY]
#
# Prints the directory that holds, afterwards:
#     vmlinuz    the bzImage
#     vmlinux    the ELF file inside of it
#     modules/   the tree of lib/modules/RELEASE, with modules.dep
#     release    the kernel's release, one line
#
# `cloud` is linux-image-cloud-amd64 (the guests' kernel), `generic` linux-image-amd64 (the host
# VM's: it has 9p). Without DIRECTORY everything goes to ${XDG_CACHE_HOME:-~/.cache}/ebb. What is
# there already is used as it is, without network; remove the directory to fetch a newer kernel.
set -eu

flavour=${1:-cloud}
cache=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/ebb}
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

case $flavour in
cloud) package=linux-image-cloud-amd64 ;;
generic) package=linux-image-amd64 ;;
*)
	echo "fetch-kernel.sh: no such flavour: $flavour (cloud or generic)" >&2
	exit 2
	;;
esac

die() {
	echo "fetch-kernel.sh: $*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# The package that the meta package depends on: linux-image-6.1.0-NN-….
resolve() {
	apt-cache depends "$package" 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
target=$cache/kernel-$flavour

# Two builds at once share the work instead of doing it twice.
exec 9>"$cache/.lock-$flavour"
flock 9

if [ ! -e "$target/release" ]; then
	work=$(mktemp -d "$cache/fetch-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	chmod 755 "$work"
	image=$(resolve)
	if [ -z "$image" ] || ! (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$image") >&2; then
		as_root apt-get -qq update >&2 || die "apt-get update failed: is there a network?"
		image=$(resolve)
		[ -n "$image" ] || die "apt knows no package $package"
		(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$image") >&2 || die "cannot download $image"
	fi
	dpkg-deb -x "$work"/linux-image-*.deb "$work/unpacked"
	release=$(ls "$work/unpacked/lib/modules")
	mkdir "$work/result"
	mv "$work/unpacked/boot/vmlinuz-$release" "$work/result/vmlinuz"
	depmod -b "$work/unpacked" "$release" || die "depmod failed: is kmod installed?"
	mv "$work/unpacked/lib/modules/$release" "$work/result/modules"
	python3 "$here/extract-vmlinux.py" "$work/result/vmlinuz" "$work/result/vmlinux"
	echo "$release" >"$work/result/release"
	rm -rf "$target"
	mv "$work/result" "$target"
fi
echo "$target"
