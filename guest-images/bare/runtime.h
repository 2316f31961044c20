/*
 * What the bare guest's C code stands on: ports, MMIO, strings, the serial line.
 *
 * The worker is one thread in ring 3 without interrupts, an operating system or a C library. It
 * owns all of guest RAM. Whatever the machine hands to it (start info, device tree, rings) is
 * checked all the same: a wrong machine must give a message, not a triple fault.
 */
#ifndef EBB_BARE_RUNTIME_H
#define EBB_BARE_RUNTIME_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SIZE 4096ull

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

/* MMIO by single plain moves: those are what every KVM decodes. */
static inline uint32_t mmio_read32(uint64_t address)
{
	uint32_t value;

	__asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline void mmio_write32(uint64_t address, uint32_t value)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline uint8_t mmio_read8(uint64_t address)
{
	uint8_t value;

	__asm__ volatile("movb (%1), %0" : "=q"(value) : "r"(address) : "memory");
	return value;
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Hides where an address came from, and orders what the compiler does around it. */
static inline void *guest_pointer(uint64_t address)
{
	void *pointer = (void *)address;

	__asm__ volatile("" : "+r"(pointer) : : "memory");
	return pointer;
}

void *memcpy(void *to, const void *from, size_t length);
void *memset(void *to, int value, size_t length);
int memcmp(const void *a, const void *b, size_t length);
size_t strlen(const char *text);
bool str_equal(const char *a, const char *b);

/* Decimal or 0x…, with K, M or G behind it. False if @text is no such number or too big. */
bool parse_number(const char *text, uint64_t *value);

/* splitmix64's finaliser: the random numbers and patterns of the worker. */
static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

void serial_init(uint16_t port);

/* Formats %s %u (uint64_t) %x (uint64_t, with 0x) %d (int64_t) %% to the serial line. */
void print(const char *format, ...);

/*
 * One line of input without its end, cut at @size - 1 characters. Waits for ever, polling. \n and \r
 * each end a line, which may be empty.
 */
void serial_read_line(char *line, size_t size);

/* True if there is input to read. */
bool serial_has_input(void);

/* The tag ("#12") of the command being executed, "" if it has none. */
extern const char *command_tag;

/* The answer to the command being executed, with its tag; one answer for each command. */
void answer_ok(const char *format, ...);
void answer_fail(const char *format, ...);

#endif
