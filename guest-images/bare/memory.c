#include "memory.h"

#include "machine.h"
#include "runtime.h"

#define NO_FRAME   UINT64_MAX
#define PAGE_WORDS (PAGE_SIZE / sizeof(uint64_t))

/* One bit for each page frame below `frames`. */
static uint64_t frames;
static uint64_t *map_free;  /* may be used by tests */
static uint64_t *map_given; /* in the balloon */
static uint64_t *map_lost;  /* has no known content */

static bool test_bit(const uint64_t *map, uint64_t bit)
{
	return map[bit / 64] >> bit % 64 & 1;
}

static void set_bit(uint64_t *map, uint64_t bit)
{
	map[bit / 64] |= 1ull << bit % 64;
}

static void clear_bit(uint64_t *map, uint64_t bit)
{
	map[bit / 64] &= ~(1ull << bit % 64);
}

static bool is_reserved(uint64_t frame)
{
	for (size_t i = 0; i < machine.reserved_count; i++)
		if (frame * PAGE_SIZE >= machine.reserved[i].start &&
		    frame * PAGE_SIZE < machine.reserved[i].end)
			return true;
	return false;
}

/* Room for the bitmaps: @length bytes of RAM without anything reserved. 0 if there is none. */
static uint64_t find_room(uint64_t length)
{
	for (size_t i = 0; i < machine.ram_count; i++) {
		uint64_t start = machine.ram[i].start;
		bool moved = true;

		while (moved) {
			moved = false;
			for (size_t r = 0; r < machine.reserved_count; r++)
				if (machine.reserved[r].start < start + length &&
				    machine.reserved[r].end > start) {
					start = machine.reserved[r].end;
					moved = true;
				}
		}
		if (start < machine.ram[i].end && length <= machine.ram[i].end - start)
			return start;
	}
	return 0;
}

const char *memory_init(void)
{
	uint64_t bytes, room;

	for (size_t i = 0; i < machine.ram_count; i++)
		if (machine.ram[i].end / PAGE_SIZE > frames)
			frames = machine.ram[i].end / PAGE_SIZE;
	bytes = (frames + 63) / 64 * 8;
	room = find_room(3 * bytes + PAGE_SIZE);
	if (!room || machine.reserved_count == MACHINE_RANGES_MAX)
		return "no room in RAM for the page bitmaps";
	map_free = guest_pointer(room);
	map_given = guest_pointer(room + bytes);
	map_lost = guest_pointer(room + 2 * bytes);
	memset(map_free, 0, 3 * bytes);
	machine.reserved[machine.reserved_count++] =
		(struct range){room, (room + 3 * bytes + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)};

	for (size_t i = 0; i < machine.ram_count; i++) {
		uint64_t frame = (machine.ram[i].start + PAGE_SIZE - 1) / PAGE_SIZE;

		for (; frame < machine.ram[i].end / PAGE_SIZE; frame++)
			if (!is_reserved(frame)) {
				set_bit(map_free, frame);
				set_bit(map_lost, frame);
			}
	}
	return NULL;
}

static uint64_t count_bits(const uint64_t *map)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < frames; i++)
		count += test_bit(map, i);
	return count;
}

uint64_t memory_given_pages(void)
{
	return count_bits(map_given);
}

uint64_t memory_free_pages(void)
{
	return count_bits(map_free);
}

static bool is_usable_frame(uint64_t frame)
{
	return test_bit(map_free, frame) && !test_bit(map_given, frame);
}

bool memory_is_usable(uint64_t start, uint64_t length)
{
	if (!length || !machine_is_ram(start, length))
		return false;
	for (uint64_t frame = start / PAGE_SIZE; frame <= (start + length - 1) / PAGE_SIZE; frame++)
		if (!is_usable_frame(frame))
			return false;
	return true;
}

uint64_t memory_give(void)
{
	static uint64_t hint = NO_FRAME;

	if (hint >= frames)
		hint = frames;
	for (uint64_t tries = 0; tries < frames; tries++) {
		hint = hint ? hint - 1 : frames - 1;
		if (is_usable_frame(hint)) {
			set_bit(map_given, hint);
			set_bit(map_lost, hint);
			return hint;
		}
	}
	return NO_FRAME;
}

void memory_take_back(uint64_t frame)
{
	clear_bit(map_given, frame);
}

uint64_t memory_give_up_run(uint64_t count, uint64_t below)
{
	uint64_t start = (below < frames ? below : frames) / count * count;

	while (start >= count) {
		uint64_t i = 0;

		start -= count;
		while (i < count && is_usable_frame(start + i))
			i++;
		if (i < count)
			continue;
		for (i = 0; i < count; i++)
			set_bit(map_lost, start + i);
		return start;
	}
	return NO_FRAME;
}

static uint64_t pattern(uint64_t address, uint64_t seed)
{
	return (address ^ seed) * 0x9e3779b97f4a7c15ull;
}

static void fill(uint64_t start, uint64_t length, uint64_t seed)
{
	uint64_t *words = guest_pointer(start);

	seed = mix(seed);
	for (uint64_t i = 0; i < length / 8; i++)
		words[i] = pattern(start + 8 * i, seed);
}

/* Compares with what fill() wrote at @base; counts wrong words and tells the first. */
static void verify(uint64_t start, uint64_t length, uint64_t seed, uint64_t base, uint64_t *bad,
		   uint64_t *first_bad)
{
	const uint64_t *words = guest_pointer(start);

	seed = mix(seed);
	for (uint64_t i = 0; i < length / 8; i++)
		if (words[i] != pattern(base + 8 * i, seed)) {
			if (!*bad)
				*first_bad = start + 8 * i;
			++*bad;
		}
}

static void answer_verified(uint64_t pages, uint64_t bad, uint64_t first_bad)
{
	if (bad)
		answer_fail("bad=%u first=%x value=%x", bad, first_bad,
			    *(const uint64_t *)guest_pointer(first_bad));
	else
		answer_ok("pages=%u bad=0", pages);
}

/* The arguments START LENGTH as whole words of usable RAM; answers itself if they are not. */
static bool check_range(uint64_t start, uint64_t length)
{
	if (start % 8 || length % 8) {
		answer_fail("start and length must be multiples of 8");
		return false;
	}
	if (!memory_is_usable(start, length)) {
		answer_fail("not all of it is free RAM outside the balloon");
		return false;
	}
	return true;
}

static void know_content(uint64_t start, uint64_t length)
{
	for (uint64_t frame = start / PAGE_SIZE; frame <= (start + length - 1) / PAGE_SIZE; frame++)
		clear_bit(map_lost, frame);
}

void memory_command_info(void)
{
	answer_ok("frames=%u free_pages=%u given_pages=%u ram_ranges=%u first=%x end=%x", frames,
		  memory_free_pages(), memory_given_pages(), (uint64_t)machine.ram_count,
		  machine.ram[0].start, machine.ram[machine.ram_count - 1].end);
}

void memory_command_fill(const uint64_t *arguments)
{
	if (!check_range(arguments[0], arguments[1]))
		return;
	fill(arguments[0], arguments[1], arguments[2]);
	know_content(arguments[0], arguments[1]);
	answer_ok("");
}

void memory_command_verify(const uint64_t *arguments)
{
	uint64_t bad = 0, first_bad = 0;
	uint64_t base = arguments[3] ? arguments[3] : arguments[0];

	if (!check_range(arguments[0], arguments[1]))
		return;
	verify(arguments[0], arguments[1], arguments[2], base, &bad, &first_bad);
	answer_verified((arguments[1] + PAGE_SIZE - 1) / PAGE_SIZE, bad, first_bad);
}

void memory_command_zero(const uint64_t *arguments)
{
	if (!check_range(arguments[0], arguments[1]))
		return;
	memset(guest_pointer(arguments[0]), 0, arguments[1]);
	know_content(arguments[0], arguments[1]);
	answer_ok("");
}

void memory_command_fill_all(const uint64_t *arguments)
{
	uint64_t pages = 0;

	for (uint64_t frame = 0; frame < frames; frame++) {
		if (!is_usable_frame(frame))
			continue;
		fill(frame * PAGE_SIZE, PAGE_SIZE, arguments[0]);
		clear_bit(map_lost, frame);
		pages++;
	}
	answer_ok("pages=%u", pages);
}

static bool is_zero_page(uint64_t frame)
{
	const uint64_t *words = guest_pointer(frame * PAGE_SIZE);

	for (unsigned i = 0; i < PAGE_WORDS; i++)
		if (words[i])
			return false;
	return true;
}

void memory_command_verify_all(const uint64_t *arguments)
{
	uint64_t pages = 0, lost = 0, lost_zero = 0, bad = 0, first_bad = 0;

	for (uint64_t frame = 0; frame < frames; frame++) {
		uint64_t address = frame * PAGE_SIZE;

		if (!is_usable_frame(frame))
			continue;
		if (test_bit(map_lost, frame)) {
			lost++;
			lost_zero += is_zero_page(frame);
			continue;
		}
		verify(address, PAGE_SIZE, arguments[0], address, &bad, &first_bad);
		pages++;
	}
	if (bad)
		answer_verified(pages, bad, first_bad);
	else
		answer_ok("pages=%u bad=0 lost=%u lost_zero=%u", pages, lost, lost_zero);
}

/* One page for memory_command_known(), counted in what it belongs to. */
struct known_counts {
	uint64_t pages, skipped, lost, lost_zero, bad, first_bad;
};

static void check_known_page(uint64_t frame, enum memory_known kind, uint64_t seed, uint64_t base,
			     struct known_counts *counts)
{
	uint64_t address = frame * PAGE_SIZE;

	if (test_bit(map_lost, frame)) {
		counts->lost++;
		counts->lost_zero += is_zero_page(frame);
		return;
	}
	counts->pages++;
	if (kind == MEMORY_KNOWN_VERIFY) {
		verify(address, PAGE_SIZE, seed, base, &counts->bad, &counts->first_bad);
	} else if (!is_zero_page(frame)) {
		if (!counts->bad)
			counts->first_bad = address;
		counts->bad++;
	}
}

void memory_command_known(enum memory_known kind, const uint64_t *arguments)
{
	uint64_t start = arguments[0], length = arguments[1], seed = arguments[2];
	uint64_t base = arguments[3] ? arguments[3] : start;
	struct known_counts counts = {0};

	if (!length || start % PAGE_SIZE || length % PAGE_SIZE || !machine_is_ram(start, length)) {
		answer_fail("no whole pages of RAM");
		return;
	}
	for (uint64_t done = 0; done < length; done += PAGE_SIZE) {
		uint64_t frame = (start + done) / PAGE_SIZE;

		if (!is_usable_frame(frame)) {
			counts.skipped++;
		} else if (kind == MEMORY_KNOWN_VERIFY || kind == MEMORY_KNOWN_ZEROES) {
			check_known_page(frame, kind, seed, base + done, &counts);
		} else {
			if (kind == MEMORY_KNOWN_FILL)
				fill(start + done, PAGE_SIZE, seed);
			else
				memset(guest_pointer(start + done), 0, PAGE_SIZE);
			clear_bit(map_lost, frame);
			counts.pages++;
		}
	}
	if (counts.bad)
		answer_verified(counts.pages, counts.bad, counts.first_bad);
	else
		answer_ok("pages=%u skipped=%u lost=%u lost_zero=%u", counts.pages, counts.skipped,
			  counts.lost, counts.lost_zero);
}

void memory_command_touch(const uint64_t *arguments)
{
	uint64_t stride = arguments[2] ? arguments[2] : PAGE_SIZE;
	uint64_t start = arguments[0], end = start + arguments[1], count = 0;

	if (!check_range(arguments[0], arguments[1]))
		return;
	if (stride % 8) {
		answer_fail("the stride must be a multiple of 8");
		return;
	}
	for (uint64_t address = start; address < end; address += stride, count++) {
		volatile uint64_t *word = guest_pointer(address);

		/* A write that keeps the pattern. */
		if (arguments[3])
			*word = *word;
		else
			(void)*word;
	}
	answer_ok("touched=%u", count);
}

/* Latencies in classes of a sixteenth of a power of two. */
#define CLASSES_PER_OCTAVE 16
static uint32_t latency_classes[64 * CLASSES_PER_OCTAVE];

static unsigned class_of(uint64_t cycles)
{
	unsigned octave = 63 - (unsigned)__builtin_clzll(cycles | 16);

	return octave * CLASSES_PER_OCTAVE + (unsigned)(cycles >> (octave - 4) & 15);
}

static uint64_t class_value(unsigned class)
{
	unsigned octave = class / CLASSES_PER_OCTAVE;

	return (16ull + class % CLASSES_PER_OCTAVE) << (octave - 4);
}

static uint64_t percentile(uint64_t total, unsigned percent)
{
	uint64_t seen = 0;

	for (unsigned i = 4 * CLASSES_PER_OCTAVE; i < sizeof(latency_classes) / 4; i++) {
		seen += latency_classes[i];
		if (seen * 100 >= total * percent)
			return class_value(i);
	}
	return 0;
}

void memory_command_latency(const uint64_t *arguments)
{
	uint64_t start = arguments[0], pages = arguments[1] / PAGE_SIZE, worst = 0, sum = 0;
	uint64_t size = 1;

	if (!pages || !check_range(start, arguments[1])) {
		if (!pages)
			answer_fail("less than a page");
		return;
	}
	memset(latency_classes, 0, sizeof(latency_classes));
	while (size < pages)
		size *= 2;
	/* A full-period generator modulo a power of two visits each page once, in jumps. */
	for (uint64_t i = 0, page = 0; i < size; i++) {
		uint64_t cycles;

		page = (page * 0x5851f42d4c957f2dull + 0x14057b7ef767814full) & (size - 1);
		if (page >= pages)
			continue;
		cycles = rdtsc();
		(void)*(volatile uint64_t *)guest_pointer(start + page * PAGE_SIZE);
		cycles = rdtsc() - cycles;
		latency_classes[class_of(cycles)]++;
		sum += cycles;
		if (cycles > worst)
			worst = cycles;
	}
	answer_ok("pages=%u p50=%u p99=%u max=%u mean=%u", pages, percentile(pages, 50),
		  percentile(pages, 99), worst, sum / pages);
}

void memory_command_churn(const uint64_t *arguments)
{
	uint64_t start = arguments[0], pages = arguments[1] / PAGE_SIZE, done = 0, sum = 0, bad = 0;
	uint64_t random = rdtsc();

	if (!pages || start % PAGE_SIZE || !check_range(start, pages * PAGE_SIZE)) {
		if (!pages || start % PAGE_SIZE)
			answer_fail("no whole pages");
		return;
	}
	/* Word 0 of each page counts; word 1 tells pages apart. */
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t *page = guest_pointer(start + i * PAGE_SIZE);

		page[0] = 0;
		page[1] = mix(i);
		set_bit(map_lost, start / PAGE_SIZE + i);
	}
	for (; done < arguments[2] || !arguments[2]; done++) {
		volatile uint64_t *page;

		if (done % 16384 == 0 && serial_has_input())
			break;
		random = random * 0x5851f42d4c957f2dull + 0x14057b7ef767814full;
		page = guest_pointer(start + (random >> 20) % pages * PAGE_SIZE);
		page[0]++;
	}
	for (uint64_t i = 0; i < pages; i++) {
		const uint64_t *page = guest_pointer(start + i * PAGE_SIZE);

		sum += page[0];
		bad += page[1] != mix(i);
	}
	if (sum != done || bad)
		answer_fail("increments=%u found=%u wrong_pages=%u", done, sum, bad);
	else
		answer_ok("increments=%u", done);
}

void memory_command_gap(const uint64_t *arguments)
{
	uint64_t start = rdtsc(), before = start, worst = 0, now;

	do {
		now = rdtsc();
		if (now - before > worst)
			worst = now - before;
		before = now;
	} while (now - start < arguments[0]);
	answer_ok("cycles=%u max=%u", now - start, worst);
}
