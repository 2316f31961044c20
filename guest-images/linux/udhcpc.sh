#!/bin/sh
# What busybox's udhcpc does with what it was told: see `udhcpc --help`.
case $1 in
deconfig)
	ip address flush dev "$interface"
	ip link set "$interface" up
	;;
bound | renew)
	ip address replace "$ip/$mask" dev "$interface"
	for gateway in $router; do
		ip route replace default via "$gateway" dev "$interface"
	done
	: >/etc/resolv.conf
	for server in $dns; do
		echo "nameserver $server" >>/etc/resolv.conf
	done
	;;
esac
