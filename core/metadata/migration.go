package metadata

import "fmt"

// Migration is one forward step of the schema, held by the package that owns
// the tables. Numbers start at 1 in each owner and have no gaps.
type Migration struct {
	Owner  string
	Number int
	SQL    []string // statements that every engine can read
}

// Name returns the owner and the number, such as "audit/3".
func (m Migration) Name() string { return fmt.Sprintf("%s/%d", m.Owner, m.Number) }

// checkMigrations panics on a gap or a double: a mistake in a declaration.
func checkMigrations(all []Migration) {
	last := map[string]int{}
	for _, m := range all {
		if m.Number != last[m.Owner]+1 {
			panic(fmt.Sprintf("metadata: migration %s follows %s/%d", m.Name(), m.Owner, last[m.Owner]))
		}
		last[m.Owner] = m.Number
	}
}
