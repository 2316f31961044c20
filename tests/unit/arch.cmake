foreach(name memory_map bzimage elf acpi device_tree cpu)
	ebb_c_test(arch_${name} unit ebb_arch)
endforeach()
# One looks into the tree with libfdt itself, two call iasl and dtc.
target_include_directories(test_arch_device_tree PRIVATE ${LIBFDT_INCLUDE})
target_link_libraries(test_arch_device_tree PRIVATE ${LIBFDT_LIBRARY})
target_compile_definitions(test_arch_acpi PRIVATE IASL="${IASL}")
find_program(DTC dtc REQUIRED)
target_compile_definitions(test_arch_device_tree PRIVATE DTC="${DTC}")
