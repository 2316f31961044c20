# The Debian package: `cpack -G DEB` in a build directory. Included last, by the top level.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ebb)
set(CPACK_PACKAGE_CONTACT "The ebb authors <ebb@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "virtual machines for KVM whose memory ebbs away to disk")
set(CPACK_PACKAGE_DESCRIPTION "ebb runs Linux guests on KVM. What a guest leaves alone can be swapped out,
compressed and encrypted, to disk or to a pool of compressed memory, while it
runs; what it touches comes back. An idle guest then costs almost no RAM.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
	OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/package/prepare.cmake)

set(package_dir ${CMAKE_CURRENT_LIST_DIR}/package)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "passwd")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "passt")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "qemu-utils")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
	${package_dir}/conffiles ${package_dir}/postinst ${package_dir}/prerm ${package_dir}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION TRUE)
set(CPACK_EBB_SOURCE_DIR ${PROJECT_SOURCE_DIR})
include(CPack)
