#!/bin/sh
# Reads the program's source with clang-tidy, cppcheck and gcc's analyzer; anything they say is a
# failure.
#
#     tests/static.sh BUILD_DIRECTORY [clang-tidy|cppcheck|analyzer]…
#
# BUILD_DIRECTORY has the release build's compile_commands.json. What is known to be no bug is marked
# where it stands, with the reason beside it.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:?which build directory?}" && pwd)
shift
[ $# -gt 0 ] || set -- clang-tidy cppcheck analyzer
jobs=$(nproc)
report=$build/static.log
failed=no

program='(vmm|swap|devices|memory|arch)/.*\.c$'

# Each prints what it has to say, and fails if it could not run.
clang_tidy() {
	command -v run-clang-tidy clang-tidy >/dev/null || return
	run-clang-tidy -p "$build" -j "$jobs" -quiet "^$root/$program" 2>/dev/null |
		grep -E '(warning|error):' | sort -u || true
}

cppcheck_() {
	cppcheck --project="$build/compile_commands.json" -i "$root/tests" -q -j "$jobs" \
		--enable=warning,performance,portability --inline-suppr \
		--library="$root/tests/cppcheck.cfg" --suppress=missingIncludeSystem \
		--suppress="*:$root/tests/*" --template='{file}:{line}: {id}: {message}' 2>&1
}

analyzer() {
	# Only what is compiled is looked at.
	rm -rf "$build/analyzer"
	cmake -S "$root" --preset release -B "$build/analyzer" -DEBB_TESTS=OFF -DEBB_WERROR=OFF \
		-DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS=-fanalyzer >/dev/null
	cmake --build "$build/analyzer" -j "$jobs" >"$build/analyzer.log" 2>&1 || return
	grep 'warning:' "$build/analyzer.log" | sed -E "s|^.*/((vmm\|swap\|devices\|memory\|arch)/)|\1|" | sort -u |
		while IFS=: read -r file line rest; do
			# Marked, with the reason, in the line or above it.
			sed -n "$((line - 1)),${line}p" "$root/$file" | grep -q 'analyzer-ok:' ||
				echo "$file:$line:$rest"
		done
}

for tool; do
	case $tool in
	clang-tidy) clang_tidy >"$report" || echo "it did not run" >>"$report" ;;
	cppcheck) cppcheck_ >"$report" || echo "it did not run" >>"$report" ;;
	analyzer) analyzer >"$report" || echo "it did not run; see $build/analyzer.log" >>"$report" ;;
	*) echo "static.sh: no such tool: $tool" >&2 && exit 2 ;;
	esac
	if [ -s "$report" ]; then
		echo "$tool:"
		cat "$report"
		failed=yes
	else
		echo "$tool: clean"
	fi
done
[ "$failed" = no ]
