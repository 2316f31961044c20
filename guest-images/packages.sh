# The Debian packages that building, testing and the demo need. Sourced by shell scripts.

EBB_BUILD_PACKAGES="gcc clang cmake ninja-build pkg-config libc6-dev linux-libc-dev libfdt-dev
	libcmocka-dev liburing-dev libjansson-dev libedit-dev libncurses-dev libxxhash-dev liblz4-dev
	libzstd-dev libssl-dev libmicrohttpd-dev libseccomp-dev acpica-tools make python3 scdoc"
EBB_TEST_PACKAGES="libclang-rt-14-dev busybox-static device-tree-compiler kmod lz4 zstd xz-utils e2fsprogs mount
	iproute2 passt qemu-system-x86 tmux util-linux chromium"

# Of guest-images/debian.sh; uidmap is for those who are not root.
EBB_DEBIAN_PACKAGES="mmdebstrap e2fsprogs uidmap"
EBB_TEST_PACKAGES="$EBB_TEST_PACKAGES $EBB_DEBIAN_PACKAGES qemu-utils"

# For the man pages, completions and the Debian package.
EBB_TEST_PACKAGES="$EBB_TEST_PACKAGES man-db mandoc zsh systemd mmdebstrap dpkg-dev"

# Of tests/static.sh.
EBB_STATIC_PACKAGES="clang-tidy cppcheck"

# Of Linux guests in tests/soak.sh.
EBB_SOAK_PACKAGES="stress-ng memtester"

# install_packages PACKAGE…: installs those that are missing, as root or by sudo.
install_packages() {
	missing=
	for package; do
		case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) in
		ii*) ;;
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	as_root=
	[ "$(id -u)" = 0 ] || as_root=sudo
	echo "installing:$missing"
	$as_root apt-get -qq update
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive $as_root apt-get -qq install --no-install-recommends $missing >/dev/null
}
