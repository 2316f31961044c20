# Disks, virtio-blk and virtio-balloon.
add_library(ebb_virtio_blk_fixture STATIC virtio_blk_fixture.c)
target_link_libraries(ebb_virtio_blk_fixture PUBLIC ebb_virtio_driver)

ebb_c_test(block unit ebb_devices)
ebb_c_test(block_format unit ebb_devices)
ebb_c_test(block_io unit ebb_devices)
target_sources(test_block_io PRIVATE block_io_disk.c)
ebb_c_test(block_io_limits unit ebb_devices)
target_sources(test_block_io_limits PRIVATE block_io_disk.c)
ebb_c_test(virtio_balloon unit ebb_virtio_driver)
ebb_c_test(virtio_blk unit ebb_virtio_blk_fixture)
ebb_c_test(virtio_blk_flow unit ebb_virtio_blk_fixture)
ebb_c_test(virtio_blk_stuck unit ebb_virtio_blk_fixture)

# Networks.
add_library(ebb_net_pair STATIC net_pair.c)
target_link_libraries(ebb_net_pair PUBLIC ebb_devices)
add_library(ebb_virtio_net_fixture STATIC virtio_net_fixture.c)
target_link_libraries(ebb_virtio_net_fixture PUBLIC ebb_virtio_driver ebb_net_pair)
ebb_c_test(net_header unit ebb_devices)
ebb_c_test(virtio_net unit ebb_virtio_net_fixture)
target_link_options(test_virtio_net PRIVATE -Wl,--wrap=guest_memory_store)
ebb_c_test(virtio_net_flow unit ebb_virtio_net_fixture)
target_link_options(test_virtio_net_flow PRIVATE -Wl,--wrap=event_source_modify)

# vsock and the console.
add_library(ebb_vsock_fixture STATIC vsock_fixture.c)
target_link_libraries(ebb_vsock_fixture PUBLIC ebb_virtio_driver)

ebb_c_test(vsock_packet unit ebb_devices)
ebb_c_test(virtio_vsock unit ebb_vsock_fixture)
ebb_c_test(virtio_vsock_hostile unit ebb_vsock_fixture)
ebb_c_test(virtio_console unit ebb_virtio_driver)
