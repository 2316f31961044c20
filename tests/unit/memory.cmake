ebb_c_test(guest_memory unit ebb_memory)
ebb_c_test(guest_access unit ebb_memory)
ebb_c_test(io_gate unit ebb_memory)
