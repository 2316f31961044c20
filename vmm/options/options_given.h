/*
 * What a VM was asked to be, as text: the options of its file and of the command line. Made where
 * there is a file, or a file is to be printed; it owns the strings that struct vm_config points to.
 */
#ifndef EBB_VMM_OPTIONS_OPTIONS_GIVEN_H
#define EBB_VMM_OPTIONS_OPTIONS_GIVEN_H

#include "vmm/base/error.h"
#include "vmm/options/option_values.h"

struct options_given {
	char *path;                  /* of the file; NULL: there is none */
	struct option_values line;   /* the command line's */
	struct option_values merged; /* what counts of both */
	struct option_values parsed; /* all of the file's, then the line's; cut up by the parsers */
};

/* Reads the file, if @path is not NULL. @line is copied. 0, or -errno with @err. */
int options_given_create(const char *path, const struct option_values *line,
			 struct options_given **out, struct error *err);

/* NULL is legal. */
void options_given_destroy(struct options_given *given);

#endif
