/* `ebb top --json`. */
#include "vmm/client/top/model.h"
#include "vmm/control/commands_internal.h"

static const char *health_name(enum top_health health)
{
	static const char *const names[] = {
		[TOP_NEW] = "unresponsive",
		[TOP_ALIVE] = "alive",
		[TOP_SILENT] = "unresponsive",
		[TOP_GONE] = "ended",
	};

	return names[health];
}

static json_t *kinds_object(const struct top_vm *vm)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "resident_bytes",
			 commands_number(vm->kinds[TOP_RESIDENT]), "staged_bytes",
			 commands_number(vm->kinds[TOP_STAGED]), "pool_bytes",
			 commands_number(vm->kinds[TOP_POOL]), "disk_bytes",
			 commands_number(vm->kinds[TOP_DISK]), "balloon_bytes",
			 commands_number(vm->kinds[TOP_BALLOON]), "zero_bytes",
			 commands_number(vm->kinds[TOP_ZERO]));
}

static json_t *numbers(const struct top_vm *vm)
{
	return json_pack("{s:I,s:o,s:I,s:I,s:I,s:f,s:f,s:o}", "memory_bytes",
			 commands_number(vm->memory_bytes), "memory", kinds_object(vm),
			 "host_bytes", commands_number(vm->host_bytes), "store_disk_bytes",
			 commands_number(vm->disk_bytes), "vcpus", (json_int_t)vm->vcpus,
			 "cpu_share", vm->cpu_share, "faults_per_s", vm->faults_per_s,
			 "fault_p99_ns",
			 vm->p99_ns ? json_integer(commands_number(vm->p99_ns)) : json_null());
}

static json_t *operation_object(const struct top_operation *operation)
{
	if (!operation->running)
		return json_null();
	return json_pack("{s:s,s:I,s:I,s:I}", "command", operation->command, "pages_done",
			 commands_number(operation->pages_done), "pages_total",
			 commands_number(operation->pages_total), "duration_ns",
			 commands_number(operation->duration_ns));
}

static json_t *machine_object(const struct top_vm *vm)
{
	return commands_join(json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "name", vm->name, "health",
				       health_name(vm->health), "pid", commands_number(vm->pid),
				       "state", vm->state, "swap_state", vm->swap_state,
				       "operation", operation_object(&vm->operation)),
			     numbers(vm));
}

static json_t *map_object(const struct top_map *map)
{
	json_t *cells = json_array();

	for (size_t i = 0; i < map->count; i++) {
		const char *kind = top_kind_name(top_map_dominant(&map->cells[i]));

		if (json_array_append_new(cells, json_string(kind))) {
			json_decref(cells);
			return NULL;
		}
	}
	return json_pack("{s:s,s:I,s:o}", "name", map->name, "bytes_per_cell",
			 commands_number(map->pages_per_cell * map->page_size), "cells", cells);
}

json_t *top_model_json(const struct top_model *model)
{
	json_t *machines = json_array();
	struct top_vm total;

	for (size_t i = 0; i < model->count; i++) {
		if (json_array_append_new(machines, machine_object(model->vms[i]))) {
			json_decref(machines);
			return NULL;
		}
	}
	top_model_total(model, &total);
	return json_pack("{s:o,s:o,s:o}", "machines", machines, "total", numbers(&total), "map",
			 model->map.name[0] ? map_object(&model->map) : json_null());
}
