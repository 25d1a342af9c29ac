#!/usr/bin/env bash
# A table's way in and out: uploads a CSV file, imports it, looks at it, exports it
# to Parquet, downloads that, imports it again and compares. It needs a running
# server, curl and sha256sum:
#
#	URL=http://127.0.0.1:8080 KEY=$(head -n 1 data/root.key) docs/round-trip.sh
#
# Another file: CSV=file.csv, with the columns of examples/orders.csv.
set -euo pipefail
CSV=${CSV:-$(dirname "$0")/../examples/orders.csv}
P=$URL/projects/${PROJECT:-round-trip}
ask() { curl -fsS -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" "$@"; }
field() { grep -o "\"$1\":[^,}]*" | head -n 1 | cut -d : -f 2- | tr -d '"'; }
same() { [ "$2" = "$3" ] || { echo "$1: $2 and $3 differ" >&2; exit 1; }; echo "$1: $2"; }
query() { ask "$P/query" -H "Accept: text/csv" -d "{\"sql\":\"$1\"}" | tail -n +2; }
lines=$(($(wc -l < "$CSV") - 1))
columns='"primary_key":["id"],"columns":[{"name":"id","type":"INTEGER"},{"name":"day","type":"DATE"},
  {"name":"customer","type":"VARCHAR"},{"name":"item","type":"VARCHAR"},{"name":"quantity","type":"INTEGER"},
  {"name":"amount","type":"DECIMAL(9,2)"}]'

ask "$URL/projects" -d "{\"id\":\"${P##*/}\"}" > /dev/null
ask "$P/buckets" -d '{"name":"shop"}' > /dev/null
for table in orders again; do
  ask "$P/buckets/shop/tables" -d "{\"name\":\"$table\",$columns}" > /dev/null
done
orders=$P/buckets/shop/tables/orders again=$P/buckets/shop/tables/again

# In: the file is stored, then imported in one transaction.
file=$(ask "$P/files?name=orders.csv" -H "Content-Type: text/csv" --data-binary "@$CSV")
same "uploaded, sha256" "$(echo "$file" | field checksum_sha256)" "$(sha256sum < "$CSV" | cut -d ' ' -f 1)"
same "imported rows" "$(ask "$orders/import/file" -d "{\"file_id\":\"$(echo "$file" | field id)\",\"format\":\"csv\"}" | field imported_rows)" "$lines"

# Looked at: the first rows, the values of each column, and SQL.
same "previewed of the rows" "$(ask "$orders/preview?limit=1" | field total_row_count)" "$lines"
same "profiled rows" "$(ask -X POST "$orders/profile?mode=full" | field row_count)" "$lines"
same "queried sum" "$(query 'SELECT sum(amount) FROM shop.orders')" \
  "$(tail -n +2 "$CSV" | awk -F , '{ sum += $6 * 100 } END { printf "%.2f", sum / 100 }')"

# Out: an export is a stored file, with its checksum.
export=$(ask "$orders/export" -d '{"format":"parquet","compression":"zstd"}')
same "exported rows" "$(echo "$export" | field rows_exported)" "$lines"
id=$(echo "$export" | field file_id)
parquet=$(mktemp) && trap 'rm -f "$parquet"' EXIT
ask "$P/files/$id/download" -o "$parquet"
same "downloaded, sha256" "$(sha256sum < "$parquet" | cut -d ' ' -f 1)" "$(ask "$P/files/$id" | field checksum_sha256)"

# In again, from what was downloaded: each row is the same.
copy=$(ask "$P/files?name=orders.parquet" -H "Content-Type: application/vnd.apache.parquet" --data-binary "@$parquet" | field id)
same "imported again, rows" "$(ask "$again/import/file" -d "{\"file_id\":\"$copy\",\"format\":\"parquet\"}" | field imported_rows)" "$lines"
same "rows that differ" "$(query '(FROM shop.orders EXCEPT ALL FROM shop.again) UNION ALL (FROM shop.again EXCEPT ALL FROM shop.orders)' | wc -l)" 0
