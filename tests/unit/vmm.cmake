ebb_c_test(vmm_options unit ebb_vmm)
ebb_c_test(vmm_policy unit ebb_vmm)
ebb_c_test(vmm_pressure unit ebb_vmm)
ebb_c_test(vmm_protocol unit ebb_vmm)
ebb_c_test(vmm_render unit ebb_vmm)
ebb_c_test(vmm_swap_all unit ebb_vmm)
ebb_c_test(vmm_chardev unit ebb_vmm util)

# A stand-in takes the place of the machine and of swap: their archives are not even looked at.
foreach(name vmm_auto vmm_commands vmm_control vmm_events vmm_operation vmm_programs)
	ebb_c_test(${name} unit ebb_vmm)
	target_sources(test_${name} PRIVATE fake_machine.c)
endforeach()
target_link_libraries(test_vmm_programs PRIVATE util)
