package worker

import (
	"sync"

	"github.com/eiderdb/eider/core/projectdb/gate"
)

// passed are statements that the gate has let pass. A service sends the same ones
// again and again, with other parameters; to check a small one costs more than to run
// it.
type passed struct {
	mu  sync.Mutex
	all map[string]gate.Checked
}

// The bounds of what is kept: some 4 MiB at most.
const (
	maxPassed     = 256
	maxPassedText = 16 << 10 // of a statement with what runs for it, in bytes
)

func (p *passed) find(sql string) (gate.Checked, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	checked, ok := p.all[sql]
	return checked, ok
}

// keep forgets all others where there are too many: those that come often are soon
// there again.
func (p *passed) keep(sql string, checked gate.Checked) {
	if len(sql)+len(checked.SQL) > maxPassedText {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil || len(p.all) >= maxPassed {
		p.all = map[string]gate.Checked{}
	}
	p.all[sql] = checked
}
