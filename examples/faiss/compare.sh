#!/bin/sh
# Compares FAISS through the plugin with FAISS called directly (direct.cpp): same rows, settings and seed.
# Exit code 1 where the reconstruction errors differ by more than 0.1 %. `make compare` builds what it needs.
#   VQ_HOST  the host's binary        ROWS  how many rows of the sample data, 5000
set -eu
cd "$(dirname "$0")"
host=${VQ_HOST:-vq-host} rows=${ROWS:-5000} data=../data/glove-20k-100d.f16bin out=compare.out seed=42
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} # threads that spin cost a busy machine most of its time
mkdir -p $out
rm -f $out/compare.db*

# The first rows of an .f16bin file: n and d in 32 bits each, then 2 bytes a value.
first_rows() {
  printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) 0)"
  tail -c +5 $data | head -c $((4 + $1 * 100 * 2))
}
first_rows "$rows" > $out/sample.f16bin
first_rows 50 > $out/queries.f16bin

"$host" run compare.toml --plugin-dir . --cache-dir $out/cache > $out/run.txt || { cat $out/run.txt; exit 1; }
"$host" results $out/compare.db --format csv --columns relative_error > $out/results.csv

# Method, relative error, settings: columns 2, last and 3. Cells that are not ok have no error and fail below.
awk -F, 'NR > 1 { print $2, $NF, $3 }' $out/results.csv | sort > $out/cells.txt
off=0
printf '%-11s %-24s %13s %13s %10s\n' method settings plugin direct off
while read -r method error settings; do
  direct=$(./direct $out/sample.f16bin $seed $method $settings 2> $out/direct.log) || { cat $out/direct.log; exit 1; }
  line=$(awk -v a="$error" -v b="$direct" 'BEGIN { d = a == b ? 0 : b == 0 ? 100 : (a / b - 1) * 100; printf "%+.4f", d; exit !(d <= 0.1 && d >= -0.1) }') || off=$((off + 1))
  printf '%-11s %-24s %13s %13s %8s %%\n' "$method" "$settings" "$error" "$direct" "$line"
done < $out/cells.txt
cells=$(wc -l < $out/cells.txt)
[ "$cells" -gt 0 ] || { echo "no cell was measured"; exit 1; }
[ $off = 0 ] || { echo "$off of $cells cells are off by more than 0.1 %"; exit 1; }
echo "all $cells cells agree within 0.1 %"
