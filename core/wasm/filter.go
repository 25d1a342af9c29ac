package wasm

import (
	"errors"
)

// filter is the expression of a manifest that spares guests most events.
type filter struct{}

func newFilter(m Manifest) (*filter, error) {
	if m.When == "" {
		return nil, nil
	}
	return nil, errors.New("when: this version evaluates no expressions")
}

// passes reports whether a guest is to be asked.
func (f *filter) passes(any) bool { return true }

type eventView struct{ e *Event }
