# Disks, virtio-blk and virtio-balloon.
ebb_c_test(block unit ebb_devices)
ebb_c_test(block_io unit ebb_devices)
ebb_c_test(virtio_blk unit ebb_virtio_driver)
ebb_c_test(virtio_balloon unit ebb_virtio_driver)
