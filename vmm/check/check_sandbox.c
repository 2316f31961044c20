/* Which walls this host gives the sandbox. It works without each of them, and protects less. */
#include "vmm/check/check_internal.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/sandbox/sandbox_filter.h"

static void check_filters(struct check_report *report)
{
	bool found = !sandbox_filter_probe();
	struct check_result *result = check_add(
		report, "sandbox_seccomp", CHECK_OPTIONAL, found, "%s",
		found ? "system calls are restricted by thread"
		      : "this kernel cannot restrict system calls (CONFIG_SECCOMP_FILTER)");

	if (!found)
		check_fix(result, "use a distribution's kernel");
}

static void check_landlock(struct check_report *report)
{
	int abi = sandbox_files_abi();
	struct check_result *result = check_add(
		report, "sandbox_landlock", CHECK_OPTIONAL, abi > 0,
		abi >= 4  ? "ABI %d: files and TCP ports are out of reach"
		: abi > 0 ? "ABI %d: files are out of reach"
			  : "no Landlock (%d): files are protected by their owners' rights alone",
		abi);

	if (!abi)
		check_fix(result, "add landlock to lsm= on this host's kernel command line");
}

static void check_namespaces(struct check_report *report)
{
	bool empty_root;
	enum sandbox_namespaces found = sandbox_probe_namespaces(&empty_root);
	struct check_result *result = check_add(
		report, "sandbox_namespaces", CHECK_OPTIONAL, found != SANDBOX_NO_NAMESPACES, "%s",
		found == SANDBOX_NAMESPACES        ? "mounts, network, IPC and host name of its own"
		: found == SANDBOX_USER_NAMESPACES ? "the same, in a user namespace"
						   : "this user may not make any");

	if (found == SANDBOX_NO_NAMESPACES)
		check_fix(result, "sudo sysctl user.max_user_namespaces=10000, and "
				  "kernel.unprivileged_userns_clone=1 where that exists");
	check_add(report, "sandbox_root", CHECK_OPTIONAL, empty_root, "%s",
		  empty_root ? "the file system of a VM is empty"
			     : "the host's sockets are protected by their owners' rights alone");
}

void check_sandbox(struct check_report *report)
{
	check_filters(report);
	check_landlock(report);
	check_namespaces(report);
}
