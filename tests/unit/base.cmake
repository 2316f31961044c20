ebb_c_test(base_checked unit ebb_base)
ebb_c_test(base_event_loop unit ebb_base)
ebb_c_test(base_text unit ebb_base)
