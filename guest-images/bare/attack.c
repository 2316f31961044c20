#include "attack.h"

#include "arch/x86_64/platform.h"
#include "attack_cases.h"
#include "machine.h"
#include "runtime.h"

#define CASES (attack_chain_case_count + attack_setup_case_count)

static const struct attack_case *find_case(uint64_t number)
{
	if (number < attack_chain_case_count)
		return &attack_chain_cases[number];
	return &attack_setup_cases[number - attack_chain_case_count];
}

void attack_command_list(void)
{
	for (size_t i = 0; i < CASES; i++)
		print("case=%u name=%s\r\n", (uint64_t)i, find_case(i)->name);
	answer_ok("count=%u", (uint64_t)CASES);
}

void attack_command_devices(void)
{
	uint64_t count = 0;

	for (size_t i = 0; i < machine.virtio_count; i++) {
		static struct attacker attacker;

		if (!attacker_take(&attacker, machine.virtio[i]))
			continue;
		print("device=%u id=%u queues=%u eager=%x\r\n", (uint64_t)i,
		      (uint64_t)attacker.device_id, (uint64_t)attacker.queue_count,
		      (uint64_t)attacker_eager_queues(&attacker));
		count++;
	}
	answer_ok("count=%u", count);
}

/* Whether what the device did is what the case asks for. */
static bool is_right(struct attacker *a, unsigned q, enum outcome outcome)
{
	bool eager = attacker_eager_queues(a) >> q & 1;

	switch (outcome) {
	case BREAK:
		return !eager || attacker_wait_broken(a);
	case REFUSE:
		attacker_write(a, REG_QUEUE_SELECT, q);
		return !mmio_read32(a->base + REG_QUEUE_READY) || attacker_is_broken(a);
	default:
		return true;
	}
}

void attack_command_run(uint64_t device, uint64_t queue, uint64_t number)
{
	static const char *const outcomes[] = {"survive", "break", "refuse"};
	static struct attacker a;
	const struct attack_case *which;
	const char *problem;
	uint32_t status;
	bool right;

	if (device >= machine.virtio_count || number >= CASES ||
	    !attacker_take(&a, machine.virtio[device]) || queue >= a.queue_count) {
		answer_fail("no such device, queue or case");
		return;
	}
	which = find_case(number);
	problem = attacker_bring_up(&a);
	if (problem) {
		answer_fail("before %s: %s", which->name, problem);
		return;
	}
	which->run(&a, (unsigned)queue);
	attacker_settle(&a, (unsigned)queue);
	right = is_right(&a, (unsigned)queue, which->outcome);
	status = mmio_read32(a.base + REG_STATUS);
	problem = attacker_check_health(&a);
	if (problem) {
		answer_fail("after %s: %s", which->name, problem);
		return;
	}
	answer_ok("name=%s wants=%s status=%x right=%u healthy=1", which->name,
		  outcomes[which->outcome], (uint64_t)status, (uint64_t)right);
}

/* Ports that end the guest, or the line that it answers on. */
static bool is_port_to_leave(uint16_t port)
{
	return port == PLATFORM_SLEEP_CONTROL || port == PLATFORM_I8042_COMMAND || port == 0x92 ||
	       port == 0xcf9 ||
	       (port + 3 >= machine.serial_port &&
		port < machine.serial_port + PLATFORM_SERIAL_PORTS);
}

static void sweep_ports(void)
{
	for (uint32_t port = 0; port < 0x10000 - 3; port += port < 0x700 ? 1 : 61) {
		uint32_t value;

		if (is_port_to_leave((uint16_t)port) || is_port_to_leave((uint16_t)(port + 1)) ||
		    is_port_to_leave((uint16_t)(port + 3)))
			continue;
		__asm__ volatile("inb %w1, %b0" : "=a"(value) : "Nd"(port));
		__asm__ volatile("inw %w1, %w0" : "=a"(value) : "Nd"(port));
		__asm__ volatile("inl %w1, %0" : "=a"(value) : "Nd"(port));
		__asm__ volatile("outb %b0, %w1" : : "a"(0), "Nd"(port));
		__asm__ volatile("outw %w0, %w1" : : "a"(0), "Nd"(port));
		__asm__ volatile("outl %0, %w1" : : "a"(0), "Nd"(port));
	}
}

static void sweep_mmio(void)
{
	uint64_t last = PLATFORM_VIRTIO_BASE + PLATFORM_VIRTIO_SLOTS * PLATFORM_VIRTIO_STRIDE;

	/* Coarsely all over the hole, finely around the transports' ends. */
	for (uint64_t address = PLATFORM_MMIO_HOLE_START; address < PLATFORM_IOAPIC_BASE;
	     address += 0x400000 - 3)
		for (unsigned size = 1; size <= 8; size *= 2) {
			attacker_touch(address, size, false);
			attacker_touch(address, size, true);
		}
	for (uint64_t base = PLATFORM_VIRTIO_BASE; base <= last; base += PLATFORM_VIRTIO_STRIDE)
		for (uint64_t address = base + PLATFORM_VIRTIO_SIZE - 8;
		     address < base + PLATFORM_VIRTIO_SIZE + 8; address++)
			for (unsigned size = 1; size <= 8; size *= 2)
				attacker_touch(address, size, address & 1);
}

void attack_command_sweep(uint64_t kind)
{
	if (kind)
		sweep_mmio();
	else
		sweep_ports();
	answer_ok("");
}
