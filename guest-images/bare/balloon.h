/* Driver of virtio-balloon (virtio 1.2, section 5.5). Every function answers its command. */
#ifndef EBB_BARE_BALLOON_H
#define EBB_BARE_BALLOON_H

#include <stdint.h>

/* Takes the device behind the transport at @base into use. NULL, or why not. */
const char *balloon_start(uint64_t base);

/* balloon info */
void balloon_command_info(void);
/* balloon inflate PAGES, balloon deflate PAGES */
void balloon_command_inflate(uint64_t pages);
void balloon_command_deflate(uint64_t pages);
/* balloon follow: inflates or deflates to what the host asks for */
void balloon_command_follow(void);
/* balloon stats: gives the host statistics, now if it asks, else as soon as it does */
void balloon_command_stats(void);
/* balloon report COUNT PAGES STEP: reports COUNT runs of PAGES pages as free, every STEPth one */
void balloon_command_report(uint64_t count, uint64_t pages, uint64_t step);

#endif
