package worker

import (
	"context"
)

// operations lists what a worker does.
func operations() map[string]operation {
	return map[string]operation{
		"ping":    func(context.Context, *task) (any, error) { return struct{}{}, nil },
		"applied": applied,
	}
}

// Applied is the answer to whether a call's change is there.
type Applied struct {
	Applied bool `json:"applied"`
}

func applied(ctx context.Context, t *task) (any, error) {
	var a Applied
	rows, err := t.db.Query(ctx, "SELECT count(*) > 0 FROM _eider.calls WHERE call_id = $1", t.request.Call)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&a.Applied); err != nil {
			return nil, err
		}
	}
	return a, rows.Err()
}
