package worker

import (
	"context"
	"encoding/json"

	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/wire"
)

// operations lists what a worker does.
func operations() map[string]operation {
	return map[string]operation{
		"ping":    func(context.Context, *task) (any, error) { return struct{}{}, nil },
		"applied": applied, wire.OpSettled: settled, wire.OpCheckpoint: checkpoint,
		"query": query, "execute": execute, "import": importFile, "export": export,
		"measure": measured,

		"list_buckets": listBuckets, "get_bucket": getBucket, "create_bucket": createBucket, "drop_bucket": dropBucket,
		"list_tables": listTables, "get_table": getTable, "create_table": createTable, "drop_table": dropTable,
		"add_column": addColumn, "alter_column": alterColumn, "drop_column": dropColumn, "add_key": addKey, "drop_key": dropKey,
		"delete_rows": deleteRows, "preview": preview, "profile": profile,
	}
}

// Applied is the answer to whether a call's change is there, and what it had for a
// result then.
type Applied struct {
	Applied bool            `json:"applied"`
	Result  json.RawMessage `json:"result,omitempty"`
}

// applied waits for the change that runs: it may be the one that is asked for.
func applied(ctx context.Context, t *task) (any, error) {
	if err := t.write.take(ctx); err != nil {
		return nil, err
	}
	defer t.write.pass()
	var a Applied
	err := t.read(ctx, func(conn *duck.Conn) error {
		return answer(ctx, conn, &a, `
			SELECT to_json({applied: count(*) > 0, result: coalesce(any_value(result), 'null')::JSON})::VARCHAR
			FROM "data"._eider.calls WHERE call_id = $1`, t.request.Call)
	})
	return a, err
}
