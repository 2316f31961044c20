/*
 * A reader of flattened device trees (Devicetree Specification 0.4, chapter 5).
 *
 * Nodes are visited one after the other in the blob's order. Every offset is checked against the
 * blob's size: a broken tree ends the walk, it never reads outside.
 */
#ifndef EBB_BARE_FDT_H
#define EBB_BARE_FDT_H

#include <stdbool.h>
#include <stdint.h>

#define FDT_DEPTH_MAX 8

struct fdt {
	const uint8_t *structure, *strings;
	uint32_t structure_size, strings_size;
	/* The walk: where it is, and what the node at each depth says of its children. */
	uint32_t position;
	int depth;
	uint32_t address_cells[FDT_DEPTH_MAX], size_cells[FDT_DEPTH_MAX];
};

struct fdt_node {
	const char *name;
	uint32_t properties;                /* offset in the structure block */
	uint32_t address_cells, size_cells; /* of its reg property */
};

/* False if @blob, of which @limit bytes may be read, is no device tree. */
bool fdt_open(struct fdt *fdt, const void *blob, uint64_t limit);

/* The next node; false at the end, or where the tree is broken. */
bool fdt_next(struct fdt *fdt, struct fdt_node *node);

/* A property's bytes, or NULL. */
const uint8_t *fdt_property(const struct fdt *fdt, const struct fdt_node *node, const char *name,
			    uint32_t *length);

/* True if @text is among the strings of the node's property. */
bool fdt_has_string(const struct fdt *fdt, const struct fdt_node *node, const char *property,
		    const char *text);

/* Entry @index of reg: false if there is none. Of a longer address the low 64 bits are given. */
bool fdt_reg(const struct fdt *fdt, const struct fdt_node *node, unsigned index, uint64_t *address,
	     uint64_t *size);

#endif
