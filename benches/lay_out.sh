#!/usr/bin/env bash
# For the other scripts of this directory.

# Builds the tree $1 and lays $2 out as the distribution is.
lay_out() {
    local tree=$1 home=$2 release script program
    release=${CARGO_TARGET_DIR:-$tree/target}/release
    (cd "$tree" && cargo build --quiet --release --workspace --bins --examples)
    mkdir -p "$home/bin"
    cp -rp "$tree/scripts/conf" "$home/"
    for script in engine start-cluster stop-cluster jobmanager taskmanager standalone-job yarn-session; do
        cp -p "$tree/scripts/$script.sh" "$home/bin/"
    done
    strip -o "$home/bin/millstream" "$release/millstream"
    for program in bench_job record_job; do
        # An earlier commit may have fewer programs.
        [[ ! -f $release/$program ]] || strip -o "$home/$program" "$release/$program"
    done
}
