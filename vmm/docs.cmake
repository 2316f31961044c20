# Man pages and completions, made of what the program says of itself (`ebb help --json`).
option(EBB_DOCS "Build the man pages (needs scdoc)" ON)
if(NOT EBB_DOCS OR EBB_SANITIZE)
	return()
endif()

find_program(SCDOC scdoc)
if(NOT SCDOC)
	message(FATAL_ERROR "scdoc is missing, which makes the man pages: apt-get install scdoc, or use -DEBB_DOCS=OFF")
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)

set(man_dir ${CMAKE_CURRENT_SOURCE_DIR}/man)
foreach(page ebb.1 ebb-run.1 ebb-console.7 ebb-swap.7)
	string(REGEX REPLACE ".*[.]" "" section ${page})
	set(target ${CMAKE_CURRENT_BINARY_DIR}/man/man${section}/${page})
	add_custom_command(OUTPUT ${target}
		COMMAND Python3::Interpreter ${man_dir}/generate.py ${man_dir}/${page}.scd $<TARGET_FILE:ebb>
			${SCDOC} ${target}
		DEPENDS ebb ${man_dir}/${page}.scd ${man_dir}/generate.py
		BYPRODUCTS ${target}.gz
		COMMENT "Man page ${page}"
		VERBATIM)
	list(APPEND man_pages ${target})
	install(FILES ${target}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()

set(completion_dir ${CMAKE_CURRENT_SOURCE_DIR}/completion)
foreach(completion ebb.bash _ebb)
	set(target ${CMAKE_CURRENT_BINARY_DIR}/${completion})
	add_custom_command(OUTPUT ${target}
		COMMAND Python3::Interpreter ${completion_dir}/generate.py ${completion_dir}/${completion}.in
			$<TARGET_FILE:ebb> ${target}
		DEPENDS ebb ${completion_dir}/${completion}.in ${completion_dir}/generate.py
		COMMENT "Completion ${completion}"
		VERBATIM)
	list(APPEND completions ${target})
endforeach()
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ebb.bash
	DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME ebb)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/_ebb
	DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)

add_custom_target(docs ALL DEPENDS ${man_pages} ${completions})
