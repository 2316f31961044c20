ebb_c_test(page_map unit ebb_swap)
ebb_c_test(store unit ebb_swap)
