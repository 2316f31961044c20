# What makes ebb a service of the host: unit, group, rights to devices, a place for configurations.
set(EBB_SYSTEMD_DIR lib/systemd/system CACHE PATH "Where systemd's units are installed")
set(EBB_SYSUSERS_DIR lib/sysusers.d CACHE PATH "Where systemd-sysusers looks")
set(EBB_UDEV_DIR lib/udev/rules.d CACHE PATH "Where udev's rules are installed")

configure_file(systemd/ebb@.service.in ${CMAKE_CURRENT_BINARY_DIR}/ebb@.service @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ebb@.service DESTINATION ${EBB_SYSTEMD_DIR})
install(FILES systemd/ebb.conf DESTINATION ${EBB_SYSUSERS_DIR})
install(FILES systemd/60-ebb.rules DESTINATION ${EBB_UDEV_DIR})
install(FILES systemd/example.json DESTINATION ${CMAKE_INSTALL_DOCDIR})
