#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/platform_info.h"

/* Leaves (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E). */
#define LEAF_VENDOR       0x0
#define LEAF_FEATURES     0x1
#define LEAF_CACHES       0x4
#define LEAF_TOPOLOGY     0xb
#define LEAF_TOPOLOGY_V2  0x1f
#define LEAF_AMD_FEATURES 0x80000001
#define LEAF_AMD_SIZES    0x80000008
#define LEAF_AMD_CACHES   0x8000001d
#define LEAF_AMD_TOPOLOGY 0x8000001e

#define FEATURE_ECX_TSC_DEADLINE (1u << 24)
#define FEATURE_ECX_HYPERVISOR   (1u << 31)
#define FEATURE_EDX_HTT          (1u << 28)
#define AMD_ECX_CMP_LEGACY       (1u << 1)

#define TOPOLOGY_LEVELS    3 /* thread, core, end of list */
#define TOPOLOGY_TYPE_SMT  1
#define TOPOLOGY_TYPE_CORE 2

/* The place of one vCPU: one socket, @count cores of one thread each, APIC id = @index. */
struct place {
	unsigned index;
	unsigned count;
	unsigned id_bits; /* of the APIC id that number the cores */
	bool amd;
	bool tsc_deadline;
};

static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;

	while (1u << bits < count)
		bits++;
	return bits;
}

static bool vendor_is_amd(const struct kvm_cpuid2 *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function != LEAF_VENDOR)
			continue;
		/* "AuthenticAMD" and "HygonGenuine": the first four letters tell. */
		return e->ebx == 0x68747541 || e->ebx == 0x6f677948;
	}
	return false;
}

static void set_features(struct kvm_cpuid_entry2 *e, const struct place *place)
{
	/* EBX: CLFLUSH line size stays; logical CPUs in the socket and APIC id are ours. */
	e->ebx = (e->ebx & 0xffff) | (1u << place->id_bits) << 16 | place->index << 24;
	e->ecx |= FEATURE_ECX_HYPERVISOR;
	if (place->tsc_deadline)
		e->ecx |= FEATURE_ECX_TSC_DEADLINE;
	else
		e->ecx &= ~FEATURE_ECX_TSC_DEADLINE;
	if (place->count > 1)
		e->edx |= FEATURE_EDX_HTT;
	else
		e->edx &= ~FEATURE_EDX_HTT;
}

/* EAX bits 25-14 of leaves 4 and 0x8000001d: how many APIC ids share the cache, less one. */
static uint32_t cache_shared_by(uint32_t eax, const struct place *place)
{
	unsigned level = eax >> 5 & 7;
	uint32_t sharing = level >= 3 ? (1u << place->id_bits) - 1 : 0;

	return (eax & ~(0xfffu << 14)) | sharing << 14;
}

static void set_intel_cache(struct kvm_cpuid_entry2 *e, const struct place *place)
{
	if ((e->eax & 0x1f) == 0) /* the end of the list */
		return;
	e->eax = cache_shared_by(e->eax, place) & 0x3ffffff;
	e->eax |= ((1u << place->id_bits) - 1) << 26;
}

static void set_amd_cache(struct kvm_cpuid_entry2 *e, const struct place *place)
{
	if ((e->eax & 0x1f) != 0)
		e->eax = cache_shared_by(e->eax, place);
}

static void set_amd_sizes(struct kvm_cpuid_entry2 *e, const struct place *place)
{
	/* ECX: ApicIdSize and the number of cores less one. */
	e->ecx = (e->ecx & ~0xf0ffu) | place->id_bits << 12 | (place->count - 1);
}

static void set_amd_topology(struct kvm_cpuid_entry2 *e, const struct place *place)
{
	e->eax = place->index; /* extended APIC id */
	e->ebx = place->index; /* core id; one thread per core */
	e->ecx = 0;            /* node 0 of one */
}

static void adapt(struct kvm_cpuid_entry2 *e, const struct place *place)
{
	switch (e->function) {
	case LEAF_FEATURES:
		set_features(e, place);
		break;
	case LEAF_CACHES:
		if (!place->amd)
			set_intel_cache(e, place);
		break;
	case LEAF_AMD_FEATURES:
		if (place->amd && place->count > 1)
			e->ecx |= AMD_ECX_CMP_LEGACY;
		break;
	case LEAF_AMD_SIZES:
		if (place->amd)
			set_amd_sizes(e, place);
		break;
	case LEAF_AMD_CACHES:
		if (place->amd)
			set_amd_cache(e, place);
		break;
	case LEAF_AMD_TOPOLOGY:
		if (place->amd)
			set_amd_topology(e, place);
		break;
	default:
		break;
	}
}

/* Leaves 0xb and 0x1f have the same form: one subleaf per level, then one of type 0. */
static void append_topology(struct kvm_cpuid2 *cpuid, uint32_t leaf, const struct place *place)
{
	for (uint32_t level = 0; level < TOPOLOGY_LEVELS; level++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[cpuid->nent++];

		*e = (struct kvm_cpuid_entry2){
			.function = leaf,
			.index = level,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.ecx = level,
			.edx = place->index,
		};
		if (level == 0) { /* one thread per core: no bit of the id numbers threads */
			e->ebx = 1;
			e->ecx |= TOPOLOGY_TYPE_SMT << 8;
		} else if (level == 1) {
			e->eax = place->id_bits;
			e->ebx = place->count;
			e->ecx |= TOPOLOGY_TYPE_CORE << 8;
		}
	}
}

int cpu_setup_cpuid(const struct kvm_cpuid2 *supported, unsigned index, unsigned count,
		    bool tsc_deadline, struct kvm_cpuid2 **guest)
{
	const struct place place = {
		.index = index,
		.count = count,
		.id_bits = bits_for(count),
		.amd = vendor_is_amd(supported),
		.tsc_deadline = tsc_deadline,
	};
	uint32_t max_leaf = 0;

	if (count == 0 || count > PLATFORM_CPUS_MAX || index >= count)
		return -EINVAL;

	size_t capacity = (size_t)supported->nent + 2 * (size_t)TOPOLOGY_LEVELS;
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + capacity * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return -ENOMEM;

	for (uint32_t i = 0; i < supported->nent; i++) {
		struct kvm_cpuid_entry2 e = supported->entries[i];

		if (e.function == LEAF_TOPOLOGY || e.function == LEAF_TOPOLOGY_V2)
			continue;
		if (e.function == LEAF_VENDOR)
			max_leaf = e.eax;
		adapt(&e, &place);
		cpuid->entries[cpuid->nent++] = e;
	}
	if (max_leaf >= LEAF_TOPOLOGY)
		append_topology(cpuid, LEAF_TOPOLOGY, &place);
	if (max_leaf >= LEAF_TOPOLOGY_V2)
		append_topology(cpuid, LEAF_TOPOLOGY_V2, &place);
	*guest = cpuid;
	return 0;
}
