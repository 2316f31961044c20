# What makes ebb a service of the host: unit, group, rights to devices, an example to begin with.
set(EBB_SYSTEMD_DIR lib/systemd/system CACHE PATH "Where systemd's units are installed")
set(EBB_SYSUSERS_DIR lib/sysusers.d CACHE PATH "Where systemd-sysusers looks")
set(EBB_UDEV_DIR lib/udev/rules.d CACHE PATH "Where udev's rules are installed")

install(FILES systemd/ebb@.service DESTINATION ${EBB_SYSTEMD_DIR})
install(FILES systemd/ebb.conf DESTINATION ${EBB_SYSUSERS_DIR})
install(FILES systemd/60-ebb.rules DESTINATION ${EBB_UDEV_DIR})
install(FILES systemd/example.json ${PROJECT_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
