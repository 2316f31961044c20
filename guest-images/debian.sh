#!/bin/sh
# Builds a disk with Debian on it that ebb boots.
#
#     debian.sh [OPTIONS] OUT.raw
#
#     --size SIZE        of the disk (default 2G); the file is sparse. `truncate -s 20G OUT.raw`
#                        enlarges it later: the file system grows when it is mounted
#     --include PKG,...  more packages, openssh-server for example
#     --hostname NAME    (default debian)
#     --password TEXT    root's password. Without it, whoever opens the serial console is root there:
#                        it belongs to those who may run the VM
#     --ssh-key FILE     public key(s) that may log in as root by ssh; adds openssh-server
#     --suite NAME       Debian release (default bookworm)
#     --mirror URL       where packages come from (default: as this host's apt has it)
#     --fresh            take today's packages, even if there are some in the cache
#
# Writes next to OUT.raw what `ebb run --disk OUT.raw` boots it with: OUT.vmlinuz and OUT.initrd,
# copied from its /boot, and OUT.cmdline; and prints the command. A kernel that is installed in the
# guest later is used when somebody copies it out of the guest over OUT.vmlinuz, and the initrd with it.
#
# Needs mmdebstrap and e2fsprogs; no root, if the user has subordinate ids (/etc/subuid) and uidmap is
# installed. The packages' files stay in ${XDG_CACHE_HOME:-~/.cache}/ebb/debian, so that only the first disk
# takes a network and half a minute.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

die() {
	echo "debian.sh: $*" >&2
	exit 1
}

usage() {
	echo "debian.sh: $*; see debian.sh --help" >&2
	exit 2
}

size=2G hostname=debian suite=bookworm mirror='' password='' has_password=no ssh_key='' include='' fresh=no
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help)
		sed -n '2,25s/^# \{0,1\}//p' "$0"
		exit 0
		;;
	--fresh) fresh=yes ;;
	--size | --include | --hostname | --password | --ssh-key | --suite | --mirror)
		[ $# -gt 1 ] || usage "$1: an argument is missing"
		case $1 in
		--size) size=$2 ;;
		--include) include=$include,$2 ;;
		--hostname) hostname=$2 ;;
		--password) password=$2 has_password=yes ;;
		--ssh-key) ssh_key=$2 ;;
		--suite) suite=$2 ;;
		--mirror) mirror=$2 ;;
		esac
		shift
		;;
	-*) usage "no such option: $1" ;;
	*) break ;;
	esac
	shift
done
[ $# = 1 ] || usage "name one file to write"
case $1 in
*.raw) out=$1 ;;
*) usage "$1: the name must end in .raw" ;;
esac
case $hostname in
'' | -* | *- | *[!A-Za-z0-9-]*) usage "--hostname $hostname: use letters, digits and '-'" ;;
esac
case $suite in
'' | -* | *[!a-z0-9-]*) usage "--suite $suite: no Debian release" ;;
esac
case $include in
*[!A-Za-z0-9.+:,-]*) usage "--include ${include#,}: package names and commas only" ;;
esac
[ "$has_password" = no ] || [ -n "$password" ] || usage "--password: empty; leave the option out for a console without one"
if [ -n "$ssh_key" ]; then
	case $(head -c 4 "$ssh_key" 2>/dev/null) in
	ssh-* | ecds | sk-s | sk-e) ;;
	*) die "--ssh-key $ssh_key: cannot be read, or is no public key (they are in files named .pub)" ;;
	esac
	include=$include,openssh-server
fi
bytes=$(numfmt --from=iec "$size" 2>/dev/null) || usage "--size $size: write for example 2G"
[ "$bytes" -ge 536870912 ] || usage "--size $size: Debian needs 512M at least"
# ebb's sectors.
bytes=$((bytes / 4096 * 4096))

for need in mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs tar:tar; do
	command -v "${need%:*}" >/dev/null || die "${need%:*} is missing: apt-get install ${need#*:}"
done
if [ "$(id -u)" != 0 ] && ! command -v newuidmap >/dev/null; then
	die "without root, newuidmap is needed: apt-get install uidmap"
fi

packages=systemd-sysv,systemd-resolved,libnss-resolve,dbus,udev,linux-image-cloud-amd64,initramfs-tools,zstd
packages=$packages,cpio,e2fsprogs,iproute2,iputils-ping,procps,less,ca-certificates$include

# Lines of sources.list: this host's mirrors of Debian, if it has some.
sources() {
	known=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 2>/dev/null || true)
	for part in "" -updates -security; do
		url=$(echo "$known" | sed -n "s/^Debian $suite$part //p" | head -n 1)
		case $part in
		-security) : "${url:=http://deb.debian.org/debian-security}" ;;
		*) : "${url:=http://deb.debian.org/debian}" ;;
		esac
		[ -z "$mirror" ] || url=$mirror
		case $suite$part in
		sid-* | unstable-*) ;; # it is updated itself
		*-security | *-updates) [ -n "$mirror" ] || echo "deb $url $suite$part main" ;;
		*) echo "deb $url $suite main" ;;
		esac
	done
}

# One directory tree from /, as a tar file: what all disks with the same packages have in common.
build_tree() {
	proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p')
	[ -z "$proxy" ] || [ -n "${http_proxy:-}" ] || export http_proxy="$proxy"
	sources | mmdebstrap --quiet --variant=minbase --include="$packages" \
		--aptopt='Acquire::Languages "none"' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/locale/locale.alias' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--essential-hook="mkdir -p \"\$1/etc/initramfs-tools/conf.d\"" \
		--essential-hook="copy-in \"$here/debian/modules\" /etc/initramfs-tools" \
		--essential-hook="echo MODULES=list >\"\$1/etc/initramfs-tools/conf.d/ebb\"" \
		--customize-hook='chroot "$1" sh -c "zstdcat /initrd.img | cpio --quiet -t" | grep /virtio_mmio.ko >/dev/null' \
		--customize-hook='chroot "$1" systemctl --quiet enable systemd-networkd systemd-resolved serial-getty@ttyS0' \
		"$suite" "$1" - || die "Debian cannot be unpacked; mmdebstrap says why above"
}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/ebb/debian
mkdir -p "$cache"
key=$(cat "$0" "$here/debian/modules" - <<END | sha256sum | cut -c 1-16
$suite $packages $mirror
END
)
tree=$cache/$suite-$key.tar
exec 9>"$cache/.lock"
flock 9
# What a killed run left, and what nobody has used for a month.
rm -rf "$cache"/build-*
find "$cache" -name '*.tar' -mtime +30 -delete
if [ "$fresh" = yes ] || [ ! -e "$tree" ]; then
	work=$(mktemp -d "$cache/build-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' INT TERM HUP
	echo "getting the packages of Debian $suite..."
	build_tree "$work/tree.tar"
	mv "$work/tree.tar" "$tree"
	rm -rf "$work"
fi
touch "$tree"
exec 9>&-

directory=$(dirname "$out")
[ -d "$directory" ] || die "$directory: there is no such directory"
directory=$(cd "$directory" && pwd)
name=$(basename "$out" .raw)
work=$(mktemp -d "$directory/.$name-XXXXXX")
# What another user id of this user's owns only that id can remove.
as_owner=
[ "$(id -u)" = 0 ] || as_owner="unshare --map-root-user --map-auto"
trap '$as_owner rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
[ -z "$ssh_key" ] || cp "$ssh_key" "$work/authorized_keys"
EBB_PASSWORD=$password $as_owner sh "$here/debian/populate.sh" "$tree" "$work" "$hostname" "$bytes" ||
	die "the disk was not built: is --size $size too small, or is there no room in $directory?"
for suffix in vmlinuz initrd cmdline raw; do
	mv "$work/disk.$suffix" "$directory/$name.$suffix"
done

quote() {
	case $1 in
	*[!A-Za-z0-9/._+-]*) printf "'%s'" "$(echo "$1" | sed "s/'/'\\\\''/g")" ;;
	*) printf %s "$1" ;;
	esac
}

stem=$(quote "${out%.raw}")
used=$(du -m "$directory/$name.raw" | cut -f 1)
cat <<END
$out: Debian $suite, $size, of which $used MiB are in use. Boot it by

    ebb run --memory 1G --disk $stem.raw

which is short for

    ebb run --memory 1G --disk $stem.raw --kernel $stem.vmlinuz --initrd $stem.initrd \\
            --cmdline "$(cat "$directory/$name.cmdline")"
END
