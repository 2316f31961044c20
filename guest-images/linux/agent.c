#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define SERIAL               "/dev/ttyS0"
#define LINE_MAX_            4096
#define OUTPUT_MAX           3000
#define LOG_QUIET            1 /* of syslog(2)'s SYSLOG_ACTION_CONSOLE_LEVEL: emergencies only */
#define SYSLOG_CONSOLE_LEVEL 8

/* Two streams: one that is both read and written would have to be repositioned in between. */
static FILE *serial_in, *serial;
static const char *tag = "";
static char kernel_cmdline[2048];

static void answer(const char *kind, const char *format, va_list arguments)
{
	char text[LINE_MAX_];

	vsnprintf(text, sizeof(text), format, arguments);
	fprintf(serial, "%s%s%s%s%s\n", kind, *tag ? " " : "", tag, *text ? " " : "", text);
	fflush(serial);
}

void answer_ok(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer("@ok", format, arguments);
	va_end(arguments);
}

void answer_done(void)
{
	answer_ok("%s", "");
}

void answer_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer("@fail", format, arguments);
	va_end(arguments);
}

bool parse_number(const char *text, uint64_t max, uint64_t *value)
{
	char *end = NULL;

	errno = 0;
	if (text && *text >= '0' && *text <= '9')
		*value = strtoull(text, &end, 0);
	if (!end || *end || errno || *value > max) {
		answer_fail("no number or too big: %s", text ? text : "(none)");
		return false;
	}
	return true;
}

static void read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

/* True if the kernel's command line has the word @flag or, with *value, @flag=value. */
static bool kernel_flag(const char *flag, char *value, size_t size)
{
	size_t length = strlen(flag);

	for (const char *at = kernel_cmdline; (at = strstr(at, flag)); at += length) {
		char end = at[length];

		if (at != kernel_cmdline && at[-1] != ' ')
			continue;
		if (value && end == '=') {
			snprintf(value, size, "%.*s", (int)strcspn(at + length + 1, " \n"),
				 at + length + 1);
			return true;
		}
		if (!value && (!end || end == ' ' || end == '\n'))
			return true;
	}
	return false;
}

static void load_modules(void)
{
	char line[256], path[300];
	FILE *order = fopen("/modules/order", "re");

	while (order && fgets(line, sizeof(line), order)) {
		int fd;

		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/modules/%s", line);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			fprintf(stderr, "agent: %s: %s\n", path, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	if (order)
		fclose(order);
}

static void mount_all(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/tmp", 01777);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mkdir("/dev/pts", 0755);
	mount("devpts", "/dev/pts", "devpts", 0, NULL);
	mount("tmp", "/tmp", "tmpfs", 0, NULL);
}

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
}

/* Waits for the power button, as acpid would. */
static void *button_main(void *opaque)
{
	int fd = (int)(intptr_t)opaque;
	struct input_event event;

	while (read(fd, &event, sizeof(event)) == sizeof(event))
		if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
			dprintf(fileno(serial), "power button: powering off\n");
			power_off();
		}
	return NULL;
}

static unsigned watch_buttons(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 16; i++) {
		char path[40], name[80] = "";
		pthread_t thread;
		int fd;

		snprintf(path, sizeof(path), "/dev/input/event%u", i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		ioctl(fd, EVIOCGNAME(sizeof(name)), name);
		if (strcmp(name, "Power Button") ||
		    pthread_create(&thread, NULL, button_main, (void *)(intptr_t)fd))
			close(fd);
		else
			count++;
	}
	return count;
}

static unsigned long meminfo(const char *field)
{
	char text[4096];
	const char *at;

	read_file("/proc/meminfo", text, sizeof(text));
	at = strstr(text, field);
	return at ? strtoul(at + strlen(field) + 1, NULL, 10) : 0;
}

static void command_free(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	if (fd >= 0) {
		dprintf(fd, "3\n");
		close(fd);
	}
	answer_ok("total_kb=%lu free_kb=%lu available_kb=%lu", meminfo("MemTotal"),
		  meminfo("MemFree"), meminfo("MemAvailable"));
}

/* The output of a command on one line. */
static void escape(const char *text, char *out, size_t size)
{
	size_t length = 0;

	for (; *text && length + 5 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '\n')
			length += (size_t)sprintf(out + length, "\\n");
		else if (c == '\\')
			length += (size_t)sprintf(out + length, "\\\\");
		else if (c < ' ' || c > '~')
			length += (size_t)sprintf(out + length, "\\x%02x", c);
		else
			out[length++] = (char)c;
	}
	out[length] = '\0';
}

static void command_sh(const char *command)
{
	char output[OUTPUT_MAX], escaped[OUTPUT_MAX + 8];
	size_t length = 0, n;
	FILE *pipe = popen(command, "r");
	int status;

	if (!pipe) {
		answer_fail("%s", strerror(errno));
		return;
	}
	while ((n = fread(output + length, 1, sizeof(output) - 1 - length, pipe)))
		length += n;
	output[length] = '\0';
	status = pclose(pipe);
	escape(output, escaped, sizeof(escaped));
	answer_ok("status=%d output=%s", WIFEXITED(status) ? WEXITSTATUS(status) : 255, escaped);
}

/* An interactive shell with job control on the serial line, until it ends. */
static void run_shell(void)
{
	pid_t pid;

	fflush(serial);
	pid = fork();
	if (!pid) {
		int fd;

		setsid();
		fd = open(SERIAL, O_RDWR);
		ioctl(fd, TIOCSCTTY, 1);
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		if (fd > 2)
			close(fd);
		setenv("PS1", "guest:\\w\\$ ", 1);
		setenv("HOME", "/root", 1);
		setenv("TERM", "linux", 0);
		execl("/bin/sh", "-sh", (char *)NULL);
		_exit(127);
	}
	/* As init we inherit the orphans, too. */
	for (pid_t ended = 0; pid > 0 && ended != pid;) {
		ended = wait(NULL);
		if (ended < 0 && errno != EINTR)
			break;
	}
}

static void command_system(const char *name)
{
	struct utsname kernel;

	if (!strcmp(name, "ping")) {
		answer_ok("pong");
	} else if (!strcmp(name, "cpus")) {
		answer_ok("cpus=%ld", sysconf(_SC_NPROCESSORS_ONLN));
	} else if (!strcmp(name, "uname")) {
		uname(&kernel);
		answer_ok("release=%s", kernel.release);
	} else if (!strcmp(name, "free")) {
		command_free();
	} else if (!strcmp(name, "shell")) {
		answer_done();
		run_shell();
	} else if (!strcmp(name, "reboot")) {
		answer_done();
		tcdrain(fileno(serial));
		sync();
		reboot(RB_AUTOBOOT);
	} else if (!strcmp(name, "poweroff")) {
		answer_done();
		tcdrain(fileno(serial));
		power_off();
	} else {
		answer_fail(
			"no such command: %s (ping cpus uname free mem writers disk vsock sh shell "
			"reboot poweroff)",
			name);
	}
}

static void execute(char *line)
{
	static char tag_text[64];
	char *words[AGENT_WORDS_MAX + 1] = {NULL};
	size_t count = 0;

	line[strcspn(line, "\r\n")] = '\0';
	tag = "";
	if (*line == '#') {
		size_t length = strcspn(line, " ");

		snprintf(tag_text, sizeof(tag_text), "%.*s", (int)length, line);
		tag = tag_text;
		line += length;
	}
	line += strspn(line, " ");
	if (!*line)
		return;
	if (!strncmp(line, "sh ", 3)) {
		command_sh(line + 3);
		return;
	}
	for (char *word = strtok(line, " "); word && count < AGENT_WORDS_MAX;
	     word = strtok(NULL, " "))
		words[count++] = word;
	if (!strcmp(words[0], "mem"))
		command_mem(words + 1);
	else if (!strcmp(words[0], "writers"))
		command_writers(words + 1);
	else if (!strcmp(words[0], "disk"))
		command_disk(words + 1);
	else if (!strcmp(words[0], "vsock"))
		command_vsock(words + 1);
	else
		command_system(words[0]);
}

/* Lines in, no echo: what we say cannot be taken for what we are told. */
static void set_terminal(bool for_commands)
{
	static struct termios original;
	struct termios raw;

	if (for_commands) {
		tcgetattr(fileno(serial), &original);
		raw = original;
		raw.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
		tcsetattr(fileno(serial), TCSANOW, &raw);
	} else {
		tcsetattr(fileno(serial), TCSANOW, &original);
	}
}

/* For the demo's shell: memory with something in it, and a way to see that it is still there. */
static void start_workload(void)
{
	char megabytes[32], command[200];

	if (!kernel_flag("ebb.workload", megabytes, sizeof(megabytes)))
		return;
	snprintf(command, sizeof(command),
		 "dd if=/dev/urandom of=/tmp/workload bs=1M count=%.10s 2>/dev/null && "
		 "md5sum /tmp/workload >/tmp/workload.md5",
		 megabytes);
	if (system(command))
		fprintf(stderr, "agent: no room for the workload\n");
	else
		fprintf(serial,
			"\n%.10s MiB of random numbers are in /tmp/workload; "
			"`md5sum -c /tmp/workload.md5` reads them again.\n",
			megabytes);
}

static void greet(unsigned buttons)
{
	struct utsname kernel;

	uname(&kernel);
	fprintf(serial, "@ready linux cpus=%ld total_kb=%lu release=%s buttons=%u\n",
		sysconf(_SC_NPROCESSORS_ONLN), meminfo("MemTotal"), kernel.release, buttons);
	fflush(serial);
}

int main(void)
{
	static char line[LINE_MAX_];
	unsigned buttons;

	mount_all();
	load_modules();
	setenv("PATH", "/bin:/sbin", 1);
	if (system("/bin/busybox --install -s /bin"))
		fprintf(stderr, "agent: busybox cannot install its commands\n");
	read_file("/proc/cmdline", kernel_cmdline, sizeof(kernel_cmdline));
	serial_in = fopen(SERIAL, "re");
	serial = fopen(SERIAL, "we");
	if (!serial_in || !serial) {
		perror("agent: " SERIAL);
		return 1;
	}
	/* Kernel messages in the midst of an answer would spoil it. */
	klogctl(SYSLOG_CONSOLE_LEVEL, NULL, LOG_QUIET);
	buttons = watch_buttons();
	start_workload();
	for (;;) {
		bool shell = kernel_flag("ebb.shell", NULL, 0);

		if (shell) {
			fprintf(serial, "\nA shell of the guest. `poweroff -f` ends it.\n\n");
			run_shell();
			continue;
		}
		set_terminal(true);
		greet(buttons);
		while (fgets(line, sizeof(line), serial_in))
			execute(line);
		clearerr(serial_in);
		set_terminal(false);
	}
}
