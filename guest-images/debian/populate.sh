#!/bin/sh
# Makes a disk of a tree: debian.sh's second half, as root of its own user namespace or as real root.
#
#     EBB_PASSWORD=TEXT populate.sh TREE.tar WORK HOSTNAME BYTES
#
# WORK/authorized_keys may be there. Leaves WORK/disk.raw, .vmlinuz, .initrd and .cmdline.
set -eu

tree=$1 work=$2 hostname=$3 bytes=$4
root=$work/root
# Like the file system's, so that copies of the disk may stand beside it as other disks.
uuid=$(cat /proc/sys/kernel/random/uuid)

umask 022
mkdir "$root"
# Device nodes cannot be made in a user namespace, and devtmpfs brings them.
tar -C "$root" --numeric-owner --exclude='./dev/*' -xf "$tree"
chmod 755 "$root"

cd "$root"
echo "$hostname" >etc/hostname
cat >etc/hosts <<END
127.0.0.1 localhost
127.0.1.1 $hostname
::1 localhost ip6-localhost ip6-loopback
END
# growfs: a disk that was enlarged is used to its end.
cat >etc/fstab <<END
UUID=$uuid / ext4 errors=remount-ro,discard,x-systemd.growfs 0 1
END
cat >etc/systemd/network/80-dhcp.network <<END
[Match]
Name=en* eth*

[Network]
DHCP=yes
IPv6AcceptRA=yes
END
ln -sf ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
# Empty: made at the first boot, another one in each copy, and no questions are asked then.
: >etc/machine-id

if [ -n "${EBB_PASSWORD:-}" ]; then
	printf 'root:%s\n' "$EBB_PASSWORD" | chroot . chpasswd
else
	mkdir -p etc/systemd/system/serial-getty@ttyS0.service.d
	cat >etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf <<END
# Whoever has the serial console of a VM has the VM.
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200,57600,38400,9600 - \$TERM
END
fi
if [ -e "$work/authorized_keys" ]; then
	mkdir -p root/.ssh
	chmod 700 root/.ssh
	install -m 600 "$work/authorized_keys" root/.ssh/authorized_keys
fi
if [ -d etc/ssh ]; then
	# The tree's keys are those of every disk that is made of it.
	rm -f etc/ssh/ssh_host_*
	cat >etc/systemd/system/ssh-host-keys.service <<END
[Unit]
Description=Keys of this host for ssh
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=ssh.service
END
	chroot . systemctl --quiet enable ssh-host-keys.service
fi

cp -L vmlinuz "$work/disk.vmlinuz"
cp -L initrd.img "$work/disk.initrd"
echo "console=ttyS0 root=UUID=$uuid ro" >"$work/disk.cmdline"
cd "$work"
truncate -s "$bytes" disk.raw
mkfs.ext4 -q -F -L root -U "$uuid" -E root_owner=0:0 -d "$root" disk.raw
rm -rf "$root"
