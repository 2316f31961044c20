foreach(name machine_vcpu machine_life machine_check net_user)
	ebb_c_test(${name} unit ebb_vmm)
	set_tests_properties(unit/${name} PROPERTIES SKIP_RETURN_CODE 77)
endforeach()
