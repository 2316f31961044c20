#include "vmm/options/help.h"

#include <errno.h>
#include <string.h>

#include "vmm/base/checked.h"

static const char general_help[] =
	"usage: ebb COMMAND [ARGUMENTS]\n"
	"\n"
	"  run       start a virtual machine\n"
	"  ctl       send one command to a running machine\n"
	"  console   commands for a running machine, interactively\n"
	"  swap      swap many machines out or in at once\n"
	"  ls        list the running machines of this user\n"
	"  top       watch them and their memory, live\n"
	"  report    write the history of a running machine as a page for the browser\n"
	"  check     can this host run guests and swap them out? what is missing?\n"
	"  help      this text; `ebb help COMMAND` says more\n"
	"  version   the version of ebb\n";

static const char run_help[] =
	"usage: ebb run --kernel FILE [OPTIONS]\n"
	"       ebb run --disk NAME.raw [OPTIONS]\n"
	"       ebb run --config FILE [OPTIONS]\n"
	"\n"
	"  --kernel FILE          Linux bzImage or an ELF kernel with a PVH note (vmlinux). Without it,\n"
	"                         NAME.vmlinuz beside the first disk NAME.raw is taken, and NAME.initrd\n"
	"                         and the command line in NAME.cmdline where they exist and no option\n"
	"                         says otherwise\n"
	"  --initrd FILE          initial ramdisk\n"
	"  --cmdline TEXT         the kernel's command line\n"
	"  --memory SIZE          guest memory, 16M or more (default 512M); K, M, G, T are understood\n"
	"  --cpus N               virtual CPUs, 1 to 64 (default 1)\n"
	"  --disk PATH[,ro][,id=NAME][,format=raw]\n"
	"                         a raw disk image or block device; may be repeated. ro: read-only;\n"
	"                         id: its serial number in the guest, at most 20 characters (default\n"
	"                         diskN). A comma in PATH is written twice. Images of other formats\n"
	"                         are refused where their name tells (disk.qcow2); what a disk\n"
	"                         contains decides nothing, for the guest writes that\n"
	"  --net tap=IFNAME[,mac=MAC]\n"
	"                         a network card on a tap interface of the host\n"
	"  --net user[,forward=HOSTPORT:GUESTPORT][,forward-udp=HOSTPORT:GUESTPORT][,mac=MAC]\n"
	"                         a network card through passt, without any privilege: the guest gets\n"
	"                         an address by DHCP and reaches what this host reaches. forward (may be\n"
	"                         repeated) leads a TCP port of 127.0.0.1 here to one of the guest,\n"
	"                         forward-udp a UDP port. --net may be repeated, for up to 8 cards\n"
	"  --serial stdio|none|pty|file=PATH|unix=PATH\n"
	"                         where the guest's serial line goes (default stdio). unix: a socket\n"
	"                         for one program at a time; what nobody reads is dropped\n"
	"  --console stdio|none|pty|file=PATH|unix=PATH\n"
	"                         a second, fast console (virtio, hvc0 in the guest; default none);\n"
	"                         stdio only if --serial is something else\n"
	"  --vsock PATH[,cid=N]   streams between host and guest. Host to guest: connect to the Unix\n"
	"                         socket PATH, write \"CONNECT PORT\\n\", read \"OK …\\n\", go on. Guest\n"
	"                         to host: CID 2, port N is the Unix socket PATH_N. cid: the guest's\n"
	"                         address (default 3). A comma in PATH is written twice. Give it a\n"
	"                         directory of its own: the sandbox leaves that one within reach\n"
	"  --name NAME            the machine's name for ctl, console and ls (default vm-PID):\n"
	"                         letters, digits, '.', '_', '-'\n"
	"  --control PATH         control socket (default $XDG_RUNTIME_DIR/ebb/NAME.sock, else\n"
	"                         /run/ebb or /tmp/ebb-UID)\n"
	"  --swap-dir PATH        where memory goes when it is swapped out: a directory, or a block\n"
	"                         device, whose contents are lost\n"
	"  --swap-pool SIZE       memory for compressed pages, 4M or more: they stay in it until it is\n"
	"                         full, then the oldest go to --swap-dir; without --swap-dir it is all\n"
	"                         there is. With neither of them the swap commands are refused\n"
	"  --swap-limit SIZE      what swapped-out memory may take of --swap-dir (default all)\n"
	"  --swap-compress lz4|zstd[:LEVEL]|none\n"
	"                         how pages are compressed (default lz4); LEVEL 1 (fast) to 19 (small)\n"
	"  --swap-encrypt on|off  encrypt what is swapped out, by a key that is never stored (default\n"
	"                         on)\n"
	"  --swap-io auto|uring|threads\n"
	"                         how the store is read and written (default auto: io_uring, or\n"
	"                         threads where the host refuses it)\n"
	"  --swap-auto off|idle=SECONDS|pressure|idle=SECONDS,pressure\n"
	"                         swap the guest out without being told (default off): when it has used\n"
	"                         hardly any CPU time for SECONDS, or when the host is short of memory;\n"
	"                         see `swap auto` in `ebb help ctl`\n"
	"  --metrics PORT|ADDRESS:PORT|PATH\n"
	"                         serve metrics in Prometheus' text format at http://…/metrics: on a\n"
	"                         port of 127.0.0.1 (0: any; `status` says which), on another address\n"
	"                         of this host, or on a Unix socket (a path with a '/')\n"
	"  --metrics-public on|off\n"
	"                         whether the address may be one that other hosts reach (default off)\n"
	"  --sandbox on|off       give up files, network, capabilities and system calls that the VM\n"
	"                         does not need, before the guest starts (default on). off is for\n"
	"                         debugging. A sandboxed VM opens nothing: `status` shows the layers\n"
	"  --dump-dtb FILE        write the machine's device tree to FILE\n"
	"  --config FILE          options from a JSON object: {\"kernel\": \"vmlinuz\", \"cpus\": 2,\n"
	"                         \"disk\": [\"a.raw\", \"b.raw,ro\"], \"swap-encrypt\": false}. Options on the\n"
	"                         command line win; those that may be repeated add to the file's.\n"
	"                         Paths are relative to the current directory in both\n"
	"  --print-config         print all options given as such an object, and start nothing\n"
	"\n"
	"On a terminal: Ctrl-A c opens the console, Ctrl-A x quits, Ctrl-A Ctrl-A sends Ctrl-A,\n"
	"Ctrl-A h lists these keys. SIGTERM asks the guest to power down, a second one quits.\n"
	"With --config and without a terminal on standard input, SIGHUP reads the file again: a new\n"
	"swap-auto takes effect at once, everything else at the next start.\n"
	"Exit status: 0 the guest powered off or was told to quit, 1 it failed, 2 wrong usage.\n";

static const char ctl_help[] =
	"usage: ebb ctl [--json] [--socket PATH] NAME COMMAND [ARGUMENT]\n"
	"\n"
	"  status            the machine, its balloon and its swap at a glance\n"
	"  history           memory, faults and swap operations since the start; see `ebb report`\n"
	"  swap enable       stage guest memory: what is touched comes back, the rest is cold\n"
	"  swap trim         drop staged pages that are zero or unchanged since they were stored\n"
	"  swap out          write what stayed cold to the store and free the memory\n"
	"  swap in           bring everything back into memory\n"
	"  swap in --working-set\n"
	"                    bring back what was touched first after recent wake-ups\n"
	"  swap disable      bring everything back and give the store's space back\n"
	"  swap cancel       stop the running operation where it is\n"
	"  swap status       pages, store, faults and the last operations\n"
	"  swap auto [off|on|POLICY]\n"
	"                    what the automatic policy does, waits for and has done; or set it, as\n"
	"                    --swap-auto does. A swap command of yours suspends it until the guest has\n"
	"                    worked and then been idle for the whole time again; `on` ends that too\n"
	"  memory-map [CELLS]\n"
	"                    where guest memory is, in CELLS ranges of equal size (default 1024)\n"
	"  dump-memory FILE  write guest memory to FILE, which must not exist. What is swapped out\n"
	"                    stays so; zeros become holes. Pause the machine for a picture of one\n"
	"                    moment\n"
	"  checksum-memory   the SHA-256 of what dump-memory would write\n"
	"  balloon [SIZE]    show the balloon, or leave the guest SIZE of its memory\n"
	"  pause, resume     stop and continue the virtual CPUs\n"
	"  resume --prefetch bring the working set back if it is swapped out, then resume\n"
	"  events [SINCE]    what happens, a line each, until Ctrl-C or the end of the machine: states,\n"
	"                    swap operations, panics, balloon, steps of the policy, warnings. SINCE: first\n"
	"                    those after event number SINCE that are still known (0: all)\n"
	"  powerdown         press the power button\n"
	"  reset             start the guest anew\n"
	"  quit              end the machine at once\n"
	"  help              what this machine understands\n"
	"\n"
	"  --json            print the lines of the control protocol: {\"progress\":…} while it goes on,\n"
	"                    then {\"result\":…} or {\"error\":{\"code\":…,\"message\":…}}; events are\n"
	"                    {\"event\":{\"type\":…,\"time_ns\":…,\"sequence\":…,…}}\n"
	"  --socket PATH     the socket that `ebb run --control PATH` made\n"
	"\n"
	"Ctrl-C during an operation that takes long cancels it. Exit status: 0 done, 1 the machine said no (why\n"
	"is on standard error), 2 wrong usage.\n";

static const char console_help[] =
	"usage: ebb console [--socket PATH] NAME\n"
	"\n"
	"Reads commands for machine NAME, those of `ebb help ctl`. Tab completes, the arrow keys go\n"
	"through the history, Ctrl-C cancels the line or the running swap operation, Ctrl-D or `exit`\n"
	"leaves. If standard input is no terminal, its lines are the commands; the exit status is then\n"
	"1 if one of them failed.\n";

static const char ls_help[] =
	"usage: ebb ls [--json]\n"
	"\n"
	"Lists the running machines of this user: name, process, state, memory, how much of it the host\n"
	"holds now, what is swapped out, what the store takes (pool and disk), and the state of swap; then\n"
	"the totals. --json prints one object per machine and line. A machine that does not answer within\n"
	"3 s is \"unresponsive\".\n";

static const char swap_help[] =
	"usage: ebb swap [OPTIONS] --all out|in|enable|trim|disable|status\n"
	"       ebb swap [OPTIONS] NAME... out|in|enable|trim|disable|status\n"
	"\n"
	"Does the same with many machines at once: with those that are named, or with all machines of\n"
	"this user (not those with a --control of their own). A line tells what became of each, the last\n"
	"one sums up.\n"
	"\n"
	"  out               stage (enable) what is not staged, then write it out\n"
	"  in, disable       bring everything back; where nothing is out or enabled, nothing is done\n"
	"  enable, trim      as in `ebb help ctl`\n"
	"  status            what of each machine is staged and swapped out, and what that takes\n"
	"\n"
	"  --jobs N          so many machines at work at the same time (default: one per CPU, at least 2)\n"
	"  --timeout SECONDS give up on a machine that says nothing for so long (default 30)\n"
	"  --json            an object for each machine and line, then {\"total\":{...}}\n"
	"\n"
	"A machine that refuses or does not answer is reported, the others go on. Ctrl-C cancels what runs\n"
	"and starts nothing more. Exit status: 0 all is done, 1 some machine failed, 2 wrong usage.\n";

static const char report_help[] =
	"usage: ebb report [--socket PATH] NAME -o FILE.html\n"
	"\n"
	"Writes one page that needs no network: where the machine's memory was since its start, the\n"
	"latency of faults, swap operations, and all figures as tables. FILE - is standard output.\n";

static const char top_help[] =
	"usage: ebb top [--interval SECONDS] [--once|--json] [NAME]\n"
	"\n"
	"Shows the running machines of this user, live: where the memory of each is, faults and their\n"
	"99th percentile, processor use, the running swap operation; totals on the last line. With NAME,\n"
	"or after Enter, one machine: the map of its memory, a character for each range.\n"
	"\n"
	"  --interval SECONDS  how often the machines are asked, 0.1 to 3600 (default 1)\n"
	"  --once              print it as text and exit; so it is where there is no terminal\n"
	"  --json              print one JSON object and exit\n"
	"\n"
	"  up, down, j, k      select a machine          e  swap enable      i  swap in\n"
	"  Enter               the map of its memory     t  swap trim        d  swap disable\n"
	"  h                   help                      o  swap out         c  swap cancel\n"
	"  q                   back, or quit\n";

static const char check_help[] =
	"usage: ebb check [--json] [--swap-dir DIR]\n"
	"\n"
	"Tries whether this host can run guests and swap them out, and says for each thing that is\n"
	"missing the command that mends it.\n";

static const char help_help[] =
	"usage: ebb help [--json] [COMMAND]\n"
	"\n"
	"--json prints every subcommand, option and console command as one object.\n";
static const char version_help[] = "usage: ebb version\n";

static const struct {
	const char *name;
	const char *text;
} topics[] = {
	{"run", run_help},     {"ctl", ctl_help},   {"console", console_help},
	{"ls", ls_help},       {"swap", swap_help}, {"report", report_help},
	{"check", check_help}, {"help", help_help}, {"version", version_help},
	{"top", top_help},
};

const char *help_summary(void)
{
	return general_help;
}

const char *help_topic(size_t i, const char **text)
{
	if (i >= ARRAY_SIZE(topics))
		return NULL;
	*text = topics[i].text;
	return topics[i].name;
}

int help_print(FILE *out, const char *command)
{
	if (!command) {
		fputs(general_help, out);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++) {
		if (!strcmp(topics[i].name, command)) {
			fputs(topics[i].text, out);
			return 0;
		}
	}
	return -ENOENT;
}
