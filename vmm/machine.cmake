# The machine, `ebb run` and `ebb check`.
target_sources(ebb_vmm PRIVATE
	boot_files.c
	check.c
	check_host.c
	check_kvm.c
	check_sandbox.c
	kvm.c
	machine.c
	machine_devices.c
	machine_events.c
	machine_net.c
	machine_virtio.c
	machine_vm.c
	net_user.c
	passt.c
	probe_guest.c
	probe_guest_code.S
	run.c
	vcpu.c
	vcpu_exit.c)
