#!/usr/bin/env bash
# Decides whether the tests notice a change to the pure modules: tries the tests on every mutant, and compares those that
# nothing noticed with survivors.md, which says of each why nobody could.
# Usage: mutants/run.sh [tlog] [lanes] [routing] [admission] [evidence]; all of them if none is named. What an earlier run
# found of a module is kept as long as the module stays as it is, so a run that was stopped goes on. Ends with 1 if a
# survivor is not explained, or if one that is explained did not survive.
set -euo pipefail
cd "$(dirname "$0")"

tree=$PWD/target/tree found=$PWD/target/found
export CARGO_TARGET_DIR=$PWD/target/build CARGO_TERM_COLOR=never
mutants() { (cd "$tree" && nice -n 10 cargo mutants --no-times "$@"); }

# A copy that may be spoilt. In it the package is the root, because cargo-mutants changes nothing outside of it. The runner
# lets tests end with the first that fails, and after so many seconds of work or so much memory, however busy the machine is.
copy() {
    rm -rf "$tree"
    mkdir -p "$tree/mutants" "$tree/.cargo" "$found"
    cp -r ../src ../tests Cargo.lock "$tree"
    cp lib.rs "$tree/mutants"
    sed 's#^path = "lib.rs"#path = "mutants/lib.rs"#' Cargo.toml >"$tree/Cargo.toml"
    cat >"$tree/.cargo/config.toml" <<'END'
[target."cfg(all())"]
runner = ["sh", "-c", "ulimit -t ${SECONDS_MAX:-25}; ulimit -v 4000000; RUSTC_BOOTSTRAP=1 exec \"$0\" \"$@\""]
END
}

# Other sources of a module have other mutants: what was found of it is forgotten.
recall() {
    (cd "$tree" && find src -path "src/$1*" -type f -exec sha256sum {} + | sort) >"$tree/sources"
    cmp -s "$tree/sources" "$found/$1/sources" || rm -rf "${found:?}/$1"
    mkdir -p "$found/$1"
    cp "$tree/sources" "$found/$1/sources"
}

# Adds up what the last call, or one that was stopped, has found of a module: cargo-mutants keeps only the newest. Tests that
# do not come to an end have noticed.
add_up() {
    local all=$found/$1 last=$found/$1/mutants.out
    [ -d "$last" ] || return 0
    cat "$last/unviable.txt" >>"$all/unviable.txt"
    cat "$last/timeout.txt" >>"$all/hung.txt"
    cat "$last/timeout.txt" >>"$last/caught.txt"
    grep -ls 'signal: 24' "$last"/log/*.log >>"$all/hung.txt" || true
}

# try MODULE TESTS FILE...: the mutants of these files that were not noticed before, with the tests whose names hold one of
# the words.
try() {
    local module=$1 tests=$2 files=() status=0
    shift 2
    for file in "$@"; do files+=(--file "**/src/$file"); done
    add_up "$module"
    # shellcheck disable=SC2086
    mutants --in-place --baseline skip --timeout 600 --iterate --output "$found/$module" "${files[@]}" \
        --no-default-features --features "$module" --cargo-arg=--lib -- -- -Zunstable-options --fail-fast $tests ||
        status=$?
    # 2: some survived; 3: some hung.
    [ "$status" = 0 ] || [ "$status" = 2 ] || [ "$status" = 3 ] || return "$status"
    add_up "$module"
}

# First with the quick tests beside the mutant, and few cases; then those that survived with all tests of the module.
module() {
    local files=("$1/**")
    recall "$1"
    export PROPTEST_CASES=16 ROUTING_SETS=50 CARGO_PROFILE_TEST_OPT_LEVEL=0
    case $1 in
    tlog)
        try tlog "tlog_note tlog_witness::cosign" tlog/{checkpoint,note,cosignature}.rs
        try tlog "tlog_witness --skip independent --skip tiles_are --skip a_proof_over" tlog/{consistency,cosignature}.rs
        try tlog "tlog_receipt --skip every_changed_byte" tlog/receipt_file.rs
        try tlog "tlog_tree --skip every_ --skip independent --skip a_log_of_two --skip a_path_is" tlog/{proof,tree,hash}.rs
        ;;
    lanes) try lanes "lanes doors --skip hundred_thousand --skip the_world_reaches" "lanes/**" ;;
    routing) try routing "routing --skip a_million --skip each_of_many" "routing/**" ;;
    admission | evidence)
        files=("$1.rs")
        try "$1" "$1 vectors" "$1.rs"
        ;;
    *) echo "no module is called $1" >&2 && return 64 ;;
    esac
    unset PROPTEST_CASES ROUTING_SETS
    export CARGO_PROFILE_TEST_OPT_LEVEL=1
    SECONDS_MAX=120 try "$1" "" "${files[@]}"
    judge "$1" "${files[0]}"
}

# What a mutant is called in survivors.md: without its place, which moves with every line above.
names() { sed -E 's#^mutants/\.\./src/##; s#:[0-9]+:[0-9]+: #: #' "$@" | sort; }

# Says how many there were and what is not explained.
judge() {
    local all hung unviable missed unexplained stale
    all=$(mutants --list --file "**/src/$2" | wc -l)
    hung=$(sort -u "$found/$1/hung.txt" | wc -l)
    unviable=$(sort -u "$found/$1/unviable.txt" | wc -l)
    missed=$(wc -l <"$found/$1/mutants.out/missed.txt")
    sed -n 's/^- `\(.*\)`: .*/\1/p' survivors.md | grep "^$1[/.]" | sort >"$found/$1/explained.txt" || true
    names "$found/$1/mutants.out/missed.txt" >"$found/$1/survived.txt"
    unexplained=$(comm -23 "$found/$1/survived.txt" "$found/$1/explained.txt")
    stale=$(comm -13 "$found/$1/survived.txt" "$found/$1/explained.txt")
    echo "| \`$1\` | $all | $((all - unviable - missed)) | $hung | $missed | $unviable |" | tee "$found/$1/figures"
    [ -z "$unexplained" ] || { failed=1 && printf 'survived, and is not explained: %s\n' "$unexplained"; }
    [ -z "$stale" ] || { failed=1 && printf 'is explained, and did not survive: %s\n' "$stale"; }
}

copy
failed=0
[ $# -gt 0 ] || set -- tlog lanes routing admission evidence
for module in "$@"; do module "$module"; done
echo '| module | mutants | caught | of these by hanging | survived | do not compile |'
for module in "$@"; do cat "$found/$module/figures"; done
exit "$failed"
