package projects

import (
	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Projects yields every project that has not been purged, as the register knows
// it in memory.
func (p *Projects) Projects(yield func(eider.Project) bool) {
	p.rows.Scan(metadata.Range[row]{Order: byNewest}, func(r *row) bool {
		return r.Status == eider.ProjectPurged || yield(r.Project)
	})
}
