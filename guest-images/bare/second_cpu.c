#include "second_cpu.h"

#include "arch/x86_64/platform.h"
#include "memory.h"
#include "runtime.h"

/* Below 1 MiB, where the VMM put nothing and the start-up vector can point. */
#define TRAMPOLINE 0x30000

#define LAPIC_ICR_LOW  0x300
#define LAPIC_ICR_HIGH 0x310
#define ICR_INIT       0x4500
#define ICR_STARTUP    0x4600
#define APIC_ID        1

#define START_CYCLES (1ull << 34)

extern char second_cpu_begin[], second_cpu_end[];

static struct {
	bool started, alive;
	volatile uint64_t *place; /* NULL: rests */
	uint64_t first, second, count;
	bool resting;
} second;

static void send(uint32_t command)
{
	mmio_write32(PLATFORM_LAPIC_BASE + LAPIC_ICR_HIGH, APIC_ID << 24);
	mmio_write32(PLATFORM_LAPIC_BASE + LAPIC_ICR_LOW, command);
}

bool second_cpu_start(void)
{
	if (second.started)
		return second.alive;
	second.started = true;
	memcpy(guest_pointer(TRAMPOLINE), second_cpu_begin,
	       (size_t)(second_cpu_end - second_cpu_begin));
	send(ICR_INIT);
	send(ICR_STARTUP | TRAMPOLINE >> 12);
	for (uint64_t start = rdtsc(); rdtsc() - start < START_CYCLES; cpu_pause())
		if (__atomic_load_n(&second.alive, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

void second_cpu_flip(volatile uint64_t *place, uint64_t first, uint64_t value)
{
	second.first = first;
	second.second = value;
	second.count = 0;
	__atomic_store_n(&second.resting, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&second.place, place, __ATOMIC_SEQ_CST);
	/* The host may not have run it for a while. */
	while (!__atomic_load_n(&second.count, __ATOMIC_ACQUIRE))
		cpu_pause();
}

uint64_t second_cpu_stop(void)
{
	__atomic_store_n(&second.place, NULL, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&second.resting, __ATOMIC_SEQ_CST))
		cpu_pause();
	return second.count;
}

static const volatile uint64_t *commanded;

void second_cpu_command_start(uint64_t address)
{
	if (address % 8 || !memory_is_usable(address, 8)) {
		answer_fail("no word of free RAM");
		return;
	}
	if (!second_cpu_start()) {
		answer_fail("there is no second CPU");
		return;
	}
	commanded = guest_pointer(address);
	second_cpu_flip(guest_pointer(address), 1, 2);
	answer_ok("");
}

void second_cpu_command_stop(void)
{
	uint64_t count;

	if (!commanded) {
		answer_fail("it was not started");
		return;
	}
	count = second_cpu_stop();
	answer_ok("count=%u value=%u", count, *commanded);
	commanded = NULL;
}

_Noreturn void second_cpu_work(void)
{
	__atomic_store_n(&second.alive, true, __ATOMIC_SEQ_CST);
	for (;;) {
		volatile uint64_t *place = __atomic_load_n(&second.place, __ATOMIC_SEQ_CST);

		if (!place) {
			__atomic_store_n(&second.resting, true, __ATOMIC_SEQ_CST);
			cpu_pause();
			continue;
		}
		*place = second.first;
		*place = second.second;
		__atomic_store_n(&second.count, second.count + 1, __ATOMIC_RELEASE);
	}
}
