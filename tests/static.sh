#!/bin/sh
# Reads the program's source with clang-tidy, cppcheck and gcc's analyzer; anything they say is a
# failure.
#
#     tests/static.sh BUILD_DIRECTORY [clang-tidy|cppcheck|analyzer|clang-analyzer]…
#
# BUILD_DIRECTORY has the release build: its compile_commands.json, and the files it made.
# clang-analyzer is the part of clang-tidy that follows each path through each function: it costs more
# than all the others together, so tests/run.sh, which runs these, leaves it out. What is known to be
# no bug is marked where it stands, with the reason beside it: NOLINT(CHECK), cppcheck-suppress,
# analyzer-ok. What clang-tidy does not look for, and why, is in .clang-tidy.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:?which build directory?}" && pwd)
shift
[ $# -gt 0 ] || set -- clang-tidy cppcheck analyzer clang-analyzer
jobs=$(nproc)
report=$build/static.log
failed=no

sources() {
	find vmm swap devices memory arch -name '*.c' | sort
}

# Each prints what it has to say, and fails if it could not do its work.

# tidy FILES [OPTION…]: that many files at once
tidy() {
	at_once=$1
	shift
	status=0
	(cd "$root" && sources | xargs -P "$jobs" -n "$at_once" clang-tidy -p "$build" -quiet "$@") \
		>"$build/$tool.log" 2>&1 || status=$?
	# It fails for findings too.
	grep -E '(warning|error):' "$build/$tool.log" | sed "s|^$root/||" | sort -u | grep . ||
		return "$status"
}

clang_tidy() {
	tidy 12 '--checks=-clang-analyzer-*'
}

clang_analyzer() {
	tidy 1 '--checks=-bugprone-*,-cert-*,-concurrency-*,-misc-*,-performance-*,-portability-*,-readability-*'
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
		-DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS=-fanalyzer >"$build/analyzer.log" 2>&1 || return
	cmake --build "$build/analyzer" -j "$jobs" >"$build/analyzer.log" 2>&1 || return
	grep 'warning:' "$build/analyzer.log" |
		sed -E "s|^.*/((vmm\|swap\|devices\|memory\|arch)/)|\1|" | sort -u |
		while IFS=: read -r file line rest; do
			# Marked, with the reason, in the line or above it.
			sed -n "$((line - 1)),${line}p" "$root/$file" | grep -q 'analyzer-ok:' ||
				echo "$file:$line:$rest"
		done
}

for tool; do
	case $tool in
	clang-tidy) check=clang_tidy ;;
	clang-analyzer) check=clang_analyzer ;;
	cppcheck) check=cppcheck_ ;;
	analyzer) check=analyzer ;;
	*) echo "static.sh: no such tool: $tool" >&2 && exit 2 ;;
	esac
	started=$(date +%s)
	$check >"$report" || echo "it did not do its work; $build/$tool.log may say why" >>"$report"
	seconds=$(($(date +%s) - started))
	if [ -s "$report" ]; then
		echo "$tool, $seconds s:"
		cat "$report"
		failed=yes
	else
		echo "$tool, $seconds s: clean"
	fi
done
[ "$failed" = no ]
