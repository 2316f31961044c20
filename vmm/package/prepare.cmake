# CPack runs this when the files are in place below CPACK_TEMPORARY_INSTALL_DIRECTORY: what has its
# place outside of the prefix.
function(place source directory name)
	file(MAKE_DIRECTORY ${CPACK_TEMPORARY_INSTALL_DIRECTORY}${directory})
	configure_file(${CPACK_EBB_SOURCE_DIR}/${source} ${CPACK_TEMPORARY_INSTALL_DIRECTORY}${directory}/${name}
		COPYONLY)
	file(CHMOD ${CPACK_TEMPORARY_INSTALL_DIRECTORY}${directory}/${name}
		FILE_PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
endfunction()

place(vmm/systemd/example.json /etc/ebb example.json)
place(LICENSE /usr/share/doc/ebb copyright)
