# The guest's side of virtio, shared by the tests of all virtio devices.
add_library(ebb_virtio_driver STATIC virtio_driver.c virtio_probe.c)
target_link_libraries(ebb_virtio_driver PUBLIC ebb_devices ${CMOCKA_LIBRARY})

ebb_c_test(bus unit ebb_devices)
ebb_c_test(i8042 unit ebb_devices)
ebb_c_test(power unit ebb_devices)
ebb_c_test(rtc unit ebb_devices)
ebb_c_test(serial unit ebb_devices)
ebb_c_test(virtqueue unit ebb_virtio_driver)
ebb_c_test(virtqueue_events unit ebb_virtio_driver)
ebb_c_test(virtio_mmio unit ebb_virtio_driver)
ebb_c_test(virtio_mmio_queues unit ebb_virtio_driver)
ebb_c_test(virtio_rng unit ebb_virtio_driver)
