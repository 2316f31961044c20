ebb_c_test(base_checked unit ebb_base)
ebb_c_test(base_event_loop unit ebb_base)
ebb_c_test(base_text unit ebb_base)
target_link_options(test_base_text PRIVATE -Wl,--wrap=clock_monotonic_ns)
