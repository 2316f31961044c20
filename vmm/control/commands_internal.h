/*
 * What vmm/control/commands*.c share: commands.c has the table and the machine's commands,
 * commands_swap.c those of swap, commands_auto.c the automatic one, commands_history.c what was,
 * commands_map.c where memory is. Main thread only.
 */
#ifndef EBB_VMM_CONTROL_COMMANDS_INTERNAL_H
#define EBB_VMM_CONTROL_COMMANDS_INTERNAL_H

#include "vmm/control/commands.h"

/* Of `memory-map`: what it gives if it is not told, and at most. */
#define COMMANDS_MAP_CELLS     1024u
#define COMMANDS_MAP_CELLS_MAX 16384u

struct swap_auto;

/* Jansson's integers are signed: what does not fit is cut to the greatest. */
json_int_t commands_number(uint64_t value);

/* @object with the members of @more. Takes both references; NULL if one of them is NULL. */
json_t *commands_join(json_t *object, json_t *more);

/* Stores a new object; a NULL is what a json_pack() out of memory returned. */
int commands_give(json_t *json, json_t **result, struct error *err);

/* `status` member "swap". NULL: out of memory. */
json_t *commands_swap_summary(const struct swap_status *swap, struct swap_auto *automation);

/* `swap auto` and `swap status` member "auto": null if there is no automation. */
json_t *commands_auto_object(struct swap_auto *automation);
/* The phase of the automation; NULL if there is none. */
const char *commands_auto_phase(struct swap_auto *automation);
int commands_run_swap_auto(const struct control_host *host, const struct control_request *request,
			   json_t **result, struct error *err);

int commands_run_history(const struct control_host *host, const struct control_request *request,
			 json_t **result, struct error *err);
int commands_run_swap_status(const struct control_host *host, const struct control_request *request,
			     json_t **result, struct error *err);
int commands_run_swap_cancel(const struct control_host *host, const struct control_request *request,
			     json_t **result, struct error *err);

/* commands_map.c */
int commands_run_memory_map(const struct control_host *host, const struct control_request *request,
			    json_t **result, struct error *err);

#endif
