#!/bin/sh
# Holds the FAISS names that `vq-host recommend` tells of the shipped methods against FAISS: index_factory makes each of them,
# with codes of the same size and an error within a quarter of ours, learned from the same rows. `make names` runs it.
#   VQ_HOST  the host's binary
set -eu
cd "$(dirname "$0")"
host=${VQ_HOST:-vq-host} rows=5000 data=../data/glove-20k-100d.f16bin out=names.out
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} # threads that spin cost a busy machine most of its time
rm -rf $out
mkdir -p $out

# The first rows of an .f16bin file: n and d in 32 bits each, then 2 bytes a value.
first_rows() {
  printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) 0)"
  tail -c +5 $data | head -c $((4 + $1 * 100 * 2))
}
first_rows $rows > $out/sample.f16bin
first_rows 50 > $out/queries.f16bin

off=0
printf '%-42s %-18s %7s %7s %10s %10s\n' configuration FAISS bytes bytes error error
while read -r method params; do
  cat > $out/one.toml <<TOML
[sweep]
name = "one"
seeds = [42]
[run]
store = "one.db"
[[dataset]]
name = "sample"
base = "sample.f16bin"
queries = "queries.f16bin"
train = "sample.f16bin"
[evaluate]
k = [10]
pairs = 100
rerank = [1]
repeats = 1
[[method]]
use = "$method"
params = { $params }
TOML
  rm -f $out/one.db
  "$host" run $out/one.toml --cache-dir $out/cache > $out/run.txt 2>&1 || { cat $out/run.txt; exit 1; }
  "$host" recommend $out/one.db --recall 0.01 --cache-dir $out/cache --format json > $out/answer.json
  ours=$("$host" results $out/one.db --format csv --columns code_bytes,relative_error | awk -F, 'NR == 2 { print $(NF - 1), $NF }')
  name=$(tr -d '\n' < $out/answer.json | sed -n 's/.*"name": *"\([^"]*\)", *"system": *"FAISS".*/\1/p')
  [ -n "$name" ] || { echo "$method $params has no name in FAISS"; exit 1; }
  theirs=$(./direct $out/sample.f16bin 42 factory "name=$name" 2> $out/direct.log) || { cat $out/direct.log; exit 1; }
  set -- $ours $theirs
  printf '%-42s %-18s %7s %7s %10s %10s\n' "$method $params" "$name" "$1" "$3" "$2" "$4"
  awk -v a="$1" -v b="$3" -v e="$2" -v f="$4" 'BEGIN { exit !(a == b && e <= 1.25 * f + 1e-6 && f <= 1.25 * e + 1e-6) }' || off=$((off + 1))
done <<'LIST'
pq m=10,bits=6
pq m=25,bits=4
opq m=10,bits=4
rq layers=4,bits=4
sq bits=8
sq bits=6
cast type="f16"
cast type="f32"
pca kept=50
LIST
[ $off = 0 ] || { echo "$off names are of something else"; exit 1; }
echo "all names are FAISS's"
