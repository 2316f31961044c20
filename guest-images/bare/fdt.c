#include "fdt.h"
#include "runtime.h"

#define FDT_MAGIC       0xd00dfeed
#define FDT_HEADER_SIZE 40
#define FDT_BEGIN_NODE  1
#define FDT_END_NODE    2
#define FDT_PROP        3
#define FDT_NOP         4

static uint32_t big32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

bool fdt_open(struct fdt *fdt, const void *blob, uint64_t limit)
{
	const uint8_t *bytes = blob;
	uint32_t total, structure, strings;

	if (limit < FDT_HEADER_SIZE || big32(bytes) != FDT_MAGIC)
		return false;
	total = big32(bytes + 4);
	structure = big32(bytes + 8);
	strings = big32(bytes + 12);
	fdt->strings_size = big32(bytes + 32);
	fdt->structure_size = big32(bytes + 36);
	if (total > limit || structure > total || fdt->structure_size > total - structure ||
	    strings > total || fdt->strings_size > total - strings)
		return false;
	fdt->structure = bytes + structure;
	fdt->strings = bytes + strings;
	fdt->position = 0;
	fdt->depth = 0;
	return true;
}

/* A word of the structure block; false beyond its end. */
static bool word_at(const struct fdt *fdt, uint32_t offset, uint32_t *value)
{
	if (offset > fdt->structure_size || fdt->structure_size - offset < 4)
		return false;
	*value = big32(fdt->structure + offset);
	return true;
}

/* The property at @offset (behind its token); its end goes to *next. */
static const uint8_t *property_at(const struct fdt *fdt, uint32_t offset, const char **name,
				  uint32_t *length, uint32_t *next)
{
	uint32_t name_offset;

	if (!word_at(fdt, offset, length) || !word_at(fdt, offset + 4, &name_offset))
		return NULL;
	offset += 8;
	if (*length > fdt->structure_size - offset || name_offset >= fdt->strings_size)
		return NULL;
	for (uint32_t i = name_offset; fdt->strings[i]; i++)
		if (i + 1 >= fdt->strings_size)
			return NULL;
	*name = (const char *)fdt->strings + name_offset;
	*next = offset + ((*length + 3) & ~3u);
	return fdt->structure + offset;
}

const uint8_t *fdt_property(const struct fdt *fdt, const struct fdt_node *node, const char *name,
			    uint32_t *length)
{
	uint32_t offset = node->properties, token;

	while (word_at(fdt, offset, &token) && (token == FDT_PROP || token == FDT_NOP)) {
		const uint8_t *data;
		const char *found;

		offset += 4;
		if (token == FDT_NOP)
			continue;
		data = property_at(fdt, offset, &found, length, &offset);
		if (!data)
			return NULL;
		if (str_equal(found, name))
			return data;
	}
	return NULL;
}

static uint32_t cells(const struct fdt *fdt, const struct fdt_node *node, const char *name,
		      uint32_t otherwise)
{
	uint32_t length;
	const uint8_t *data = fdt_property(fdt, node, name, &length);

	return data && length == 4 ? big32(data) : otherwise;
}

/* Enters the node whose name is at fdt->position. */
static bool begin_node(struct fdt *fdt, struct fdt_node *node)
{
	uint32_t start = fdt->position, end = start;

	if (fdt->depth == FDT_DEPTH_MAX)
		return false;
	while (end < fdt->structure_size && fdt->structure[end])
		end++;
	if (end == fdt->structure_size)
		return false;
	fdt->position = (end + 4) & ~3u;
	node->name = (const char *)fdt->structure + start;
	node->properties = fdt->position;
	node->address_cells = fdt->depth ? fdt->address_cells[fdt->depth - 1] : 2;
	node->size_cells = fdt->depth ? fdt->size_cells[fdt->depth - 1] : 1;
	fdt->address_cells[fdt->depth] = cells(fdt, node, "#address-cells", 2);
	fdt->size_cells[fdt->depth] = cells(fdt, node, "#size-cells", 1);
	fdt->depth++;
	return true;
}

bool fdt_next(struct fdt *fdt, struct fdt_node *node)
{
	uint32_t token;

	while (word_at(fdt, fdt->position, &token)) {
		const char *name;
		uint32_t length;

		fdt->position += 4;
		switch (token) {
		case FDT_BEGIN_NODE:
			return begin_node(fdt, node);
		case FDT_END_NODE:
			if (--fdt->depth <= 0)
				return false;
			break;
		case FDT_PROP:
			if (!property_at(fdt, fdt->position, &name, &length, &fdt->position))
				return false;
			break;
		case FDT_NOP:
			break;
		default:
			return false;
		}
	}
	return false;
}

bool fdt_has_string(const struct fdt *fdt, const struct fdt_node *node, const char *property,
		    const char *text)
{
	uint32_t length, wanted = (uint32_t)strlen(text) + 1;
	const uint8_t *data = fdt_property(fdt, node, property, &length);

	for (uint32_t start = 0, i = 0; data && i < length; i++) {
		if (data[i])
			continue;
		if (i + 1 - start == wanted && !memcmp(data + start, text, wanted))
			return true;
		start = i + 1;
	}
	return false;
}

static uint64_t number(const uint8_t *data, uint32_t count)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < count; i++)
		value = value << 32 | big32(data + 4 * i);
	return value;
}

bool fdt_reg(const struct fdt *fdt, const struct fdt_node *node, unsigned index, uint64_t *address,
	     uint64_t *size)
{
	uint32_t length, entry;
	const uint8_t *data = fdt_property(fdt, node, "reg", &length);

	if (!data || node->address_cells > 4 || node->size_cells > 4)
		return false;
	entry = 4 * (node->address_cells + node->size_cells);
	if (!entry || index >= length / entry)
		return false;
	data += index * entry;
	*address = number(data, node->address_cells);
	*size = number(data + 4 * node->address_cells, node->size_cells);
	return true;
}
