/* The registers of the MMIO transport (virtio 1.2, section 4.2.2) and the bits of the status. */
#ifndef EBB_BARE_VIRTIO_REGISTERS_H
#define EBB_BARE_VIRTIO_REGISTERS_H

#define REG_MAGIC           0x000
#define REG_VERSION         0x004
#define REG_DEVICE_ID       0x008
#define REG_FEATURES        0x010
#define REG_FEATURES_SELECT 0x014
#define REG_DRIVER          0x020
#define REG_DRIVER_SELECT   0x024
#define REG_QUEUE_SELECT    0x030
#define REG_QUEUE_MAX       0x034
#define REG_QUEUE_SIZE      0x038
#define REG_QUEUE_READY     0x044
#define REG_QUEUE_NOTIFY    0x050
#define REG_INTERRUPT_ACK   0x064
#define REG_STATUS          0x070
#define REG_QUEUE_DESC      0x080
#define REG_QUEUE_DRIVER    0x090
#define REG_QUEUE_DEVICE    0x0a0

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER      2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8

#endif
