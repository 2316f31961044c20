#include "tests/bench/contents_kinds.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/checked.h"

/* Where the next bytes go; what does not fit is cut off. */
struct writer {
	uint8_t *at, *end;
};

static void put(struct writer *writer, const void *bytes, size_t length)
{
	size_t room = (size_t)(writer->end - writer->at);

	if (length > room)
		length = room;
	memcpy(writer->at, bytes, length);
	writer->at += length;
}

static void put_value(struct writer *writer, uint64_t value, size_t length)
{
	put(writer, &value, length);
}

/* ---- text ---- */

#define WORDS 4096u

/* Word number @rank: frequent ones are short. */
static size_t spell(unsigned rank, char *word)
{
	static const char syllables[][5] = {"a",   "er",  "in",  "ta",  "re",  "on", "li",  "the",
					    "sto", "ma",  "ne",  "ing", "ca",  "de", "ro",  "ment",
					    "pe",  "ver", "so",  "un",  "ble", "da", "con", "tion",
					    "fi",  "low", "per", "mi",  "ack", "te", "nu",  "or"};
	struct random random = {rank};
	unsigned count = 1 + (rank > 30) + (rank > 500) + random_below(&random, 2);
	size_t length = 0;

	for (unsigned i = 0; i < count; i++) {
		const char *syllable = syllables[random_below(&random, ARRAY_SIZE(syllables))];

		while (*syllable)
			word[length++] = *syllable++;
	}
	return length;
}

/* Ranks as in natural language: the number of words grows with the logarithm of the rank. */
static unsigned pick_rank(struct random *random)
{
	unsigned octave = random_below(random, 13);

	return (1u << octave) - 1 + random_below(random, 1u << octave);
}

static void put_word(struct writer *writer, struct random *random)
{
	char word[32];
	size_t length = spell(pick_rank(random) % WORDS, word);

	put(writer, word, length);
}

static void put_sentence(struct writer *writer, struct random *random)
{
	unsigned words = 5 + random_below(random, 14);

	for (unsigned i = 0; i < words; i++) {
		put_word(writer, random);
		put(writer, i % 7 == 6 ? ", " : " ", i % 7 == 6 ? 2 : 1);
	}
	put(writer, random_below(random, 4) ? ". " : ".\n", 2);
}

static void put_log_line(struct writer *writer, struct random *random, unsigned *clock)
{
	static const char *const levels[] = {"info", "info", "info", "warning", "debug"};
	char line[96];
	int length;

	*clock += random_below(random, 3000);
	length = snprintf(line, sizeof(line),
			  "2031-05-17 %02u:%02u:%02u.%03u host service[%u]: %s: ",
			  *clock / 3600000 % 24, *clock / 60000 % 60, *clock / 1000 % 60,
			  *clock % 1000, 800 + random_below(random, 5) * 37,
			  levels[random_below(random, ARRAY_SIZE(levels))]);
	put(writer, line, (size_t)length);
	for (unsigned i = 0; i < 6; i++) {
		put_word(writer, random);
		put(writer, " ", 1);
	}
	length = snprintf(line, sizeof(line), "id=%08x\n", (unsigned)random_next(random));
	put(writer, line, (size_t)length);
}

void generate_text(uint8_t *target, size_t length, struct random *random)
{
	struct writer writer = {target, target + length};
	bool log = random_below(random, 2) == 0;
	unsigned clock = random_below(random, 86400000);

	while (writer.at < writer.end) {
		if (log)
			put_log_line(&writer, random, &clock);
		else
			put_sentence(&writer, random);
	}
}

/* ---- code ---- */

/*
 * Instructions: opcode bytes, then what varies: r = a register in the ModRM byte, s = an 8-bit stack
 * offset, f = an 8-bit field offset, j = a short jump, i = a small 32-bit immediate, c = a call to one
 * of a few functions, d = RIP-relative data.
 */
static const struct {
	uint8_t weight, length;
	uint8_t bytes[4];
	char operands[3];
} instructions[] = {
	{14, 2, {0x48, 0x8b}, "rf"},      /* mov r64, [r+f] */
	{8, 2, {0x48, 0x89}, "rf"},       /* mov [r+f], r64 */
	{10, 3, {0x48, 0x89, 0xc0}, "r"}, /* mov r64, r64 */
	{6, 4, {0x48, 0x8b, 0x44, 0x24}, "s"},
	{5, 4, {0x48, 0x89, 0x44, 0x24}, "s"},
	{10, 1, {0xe8}, "c"},
	{5, 3, {0x48, 0x8d, 0x3d}, "d"}, /* lea rdi, [rip+d] */
	{3, 3, {0x48, 0x8b, 0x05}, "d"},
	{7, 2, {0x85, 0xc0}, "r"}, /* test */
	{7, 1, {0x74}, "j"},
	{5, 1, {0x75}, "j"},
	{3, 2, {0x0f, 0x84}, "i"},
	{4, 1, {0xeb}, "j"},
	{3, 1, {0xe9}, "i"},
	{4, 1, {0xbe}, "i"}, /* mov esi, imm */
	{3, 1, {0xbf}, "i"},
	{4, 2, {0x31, 0xc0}, "r"},
	{4, 3, {0x48, 0x83, 0xc0}, "rs"},
	{4, 3, {0x83, 0x7b, 0x08}, "s"},
	{3, 3, {0x48, 0x39, 0xc0}, "r"},
	{2, 3, {0x0f, 0xb6, 0x40}, "f"},
	{2, 2, {0x63, 0x04}, "r"},
	{2, 3, {0x48, 0xc1, 0xe0}, "s"},
};

static void put_operand(struct writer *writer, char operand, struct random *random)
{
	static const uint8_t registers[] = {0xc0, 0xc7, 0x45, 0x43, 0xdf, 0x7d, 0xd8, 0x47,
					    0xe8, 0xfb, 0x50, 0x73, 0xf6, 0xd2, 0x5c, 0xee};
	unsigned mask = random_below(random, 16), skewed = random_below(random, 16) & mask;

	switch (operand) {
	case 'r':
		put_value(writer, registers[skewed], 1);
		break;
	case 's':
	case 'f':
		put_value(writer, 8ull * (skewed + random_below(random, 2)), 1);
		break;
	case 'j':
		put_value(writer, random_below(random, 96), 1);
		break;
	case 'i':
		put_value(writer, random_below(random, 1u << (4 + random_below(random, 8))), 4);
		break;
	case 'c':
		/* Backwards by a distance that depends on where the call stands. */
		put_value(writer, 0xfff00000u + (unsigned)random_below(random, 1u << 20), 4);
		break;
	default:
		put_value(writer, 0x10000u + random_below(random, 1u << 16), 4);
	}
}

static void put_instruction(struct writer *writer, struct random *random, unsigned weights)
{
	unsigned point = random_below(random, weights);
	size_t i = 0;

	while (point >= instructions[i].weight)
		point -= instructions[i++].weight;
	put(writer, instructions[i].bytes, instructions[i].length);
	for (const char *operand = instructions[i].operands; *operand; operand++)
		put_operand(writer, *operand, random);
}

/* What was inlined before, or comes from the same macro. */
static void put_idiom(struct writer *writer, const uint8_t *start, struct random *random)
{
	unsigned length = 16 + random_below(random, 32);
	size_t before = (size_t)(writer->at - start);

	if (before > length)
		put(writer, start + random_below(random, (unsigned)before - length), length);
}

static void put_function(struct writer *writer, const uint8_t *start, struct random *random,
			 unsigned weights)
{
	static const uint8_t prologue[] = {0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x57, 0x41, 0x56, 0x41,
					   0x55, 0x41, 0x54, 0x55, 0x53, 0x48, 0x83, 0xec};
	static const uint8_t epilogue[] = {0x5b, 0x5d, 0x41, 0x5c, 0x41, 0x5d,
					   0x41, 0x5e, 0x41, 0x5f, 0xc3};
	static const uint8_t padding[] = {0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00,
					  0x00, 0x00, 0x00, 0x0f, 0x1f, 0x40, 0x00, 0x90};
	unsigned count = 8 + random_below(random, 60);

	put(writer, prologue, sizeof(prologue));
	put_operand(writer, 's', random);
	while (count--) {
		put_instruction(writer, random, weights);
		if (random_below(random, 12) == 0)
			put_idiom(writer, start, random);
	}
	put_value(writer, 0xc48348, 3);
	put_operand(writer, 's', random);
	put(writer, epilogue, sizeof(epilogue));
	put(writer, padding, (size_t)(writer->end - writer->at) % sizeof(padding));
}

void generate_code(uint8_t *target, size_t length, struct random *random)
{
	struct writer writer = {target, target + length};
	unsigned weights = 0;

	for (size_t i = 0; i < ARRAY_SIZE(instructions); i++)
		weights += instructions[i].weight;
	while (writer.at < writer.end)
		put_function(&writer, target, random, weights);
}

/* ---- heap ---- */

/* What a field of an object holds: always the same kind in all objects of a page. */
enum field {
	FIELD_ZERO,
	FIELD_POINTER, /* to somewhere in the heap */
	FIELD_NEXT,    /* to a near object */
	FIELD_TYPE,    /* one of a few addresses of code */
	FIELD_SMALL,   /* a count, a length, a flag */
	FIELD_TEXT,    /* eight characters */
	FIELD_NUMBER,  /* a double or a hash */
	FIELD_KINDS,
};

static enum field pick_field(struct random *random)
{
	static const uint8_t weights[FIELD_KINDS] = {46, 10, 7, 10, 23, 2, 2};
	unsigned point = random_below(random, 100);
	int field = 0;

	while (field < FIELD_KINDS - 1 && point >= weights[field])
		point -= weights[field++];
	return (enum field)field;
}

static void put_field(struct writer *writer, enum field field, uint64_t arena, unsigned offset,
		      struct random *random)
{
	switch (field) {
	case FIELD_POINTER:
		put_value(writer, arena + 16ull * random_below(random, 1u << 18), 8);
		break;
	case FIELD_NEXT:
		put_value(writer, arena + offset + 16ull * random_below(random, 16), 8);
		break;
	case FIELD_TYPE:
		put_value(writer, 0x0000561234560000ull + 0x140ull * random_below(random, 6), 8);
		break;
	case FIELD_SMALL:
		put_value(writer, random_below(random, 1u << random_below(random, 9)), 8);
		break;
	case FIELD_TEXT:
		put(writer, "nameitem", 3 + random_below(random, 5));
		break;
	case FIELD_NUMBER:
		put_value(writer, random_next(random), 8);
		break;
	default:
		put_value(writer, 0, 8);
	}
}

void generate_heap(uint8_t *target, size_t length, struct random *random)
{
	static const uint8_t sizes[] = {4, 6, 8, 12, 16, 24};
	struct writer writer = {target, target + length};
	uint64_t arena = 0x00007f3400000000ull + ((uint64_t)random_below(random, 64) << 26);
	unsigned words = sizes[random_below(random, ARRAY_SIZE(sizes))];
	enum field layout[24];

	for (unsigned i = 0; i < words; i++)
		layout[i] = pick_field(random);
	while (writer.at < writer.end) {
		unsigned offset = (unsigned)(writer.at - target);
		uint8_t *next = writer.at + (size_t)words * 8;
		/* Some objects are free: nothing but links. */
		bool free_object = random_below(random, 6) == 0;

		put_value(&writer, words * 8ull + 1, 8);
		for (unsigned i = 1; i < words && writer.at < writer.end; i++) {
			enum field field =
				free_object ? i < 3 ? FIELD_NEXT : FIELD_ZERO : layout[i];
			uint8_t *start = writer.at;

			put_field(&writer, field, arena, offset, random);
			/* Short text is padded by zeros. */
			if (writer.at < start + 8 && start + 8 <= writer.end)
				put_value(&writer, 0, (size_t)(start + 8 - writer.at));
		}
		if (next > writer.end)
			break;
	}
}
