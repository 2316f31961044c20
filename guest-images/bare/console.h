/* A small driver of virtio-console (virtio 1.2, section 5.3), for commands of the serial line. */
#ifndef EBB_BARE_CONSOLE_H
#define EBB_BARE_CONSOLE_H

#include <stdint.h>

const char *console_start(uint64_t base);

/* console info */
void console_command_info(const uint64_t *arguments);
/* console write BYTES: letters in alphabetical order, over and over */
void console_command_write(const uint64_t *arguments);
/* console echo BYTES: reads so many bytes and writes them back */
void console_command_echo(const uint64_t *arguments);

#endif
