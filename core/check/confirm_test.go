package check

import (
	"context"
	"errors"
	"testing"
)

// thing is a row and a folder that an operation changes one after the other.
type thing struct {
	row, folder int
	claimed     bool
	looks       int
	during      func(look int) // what happens between reading the row and the folder
}

func (x *thing) state() (int, bool) { return x.row, !x.claimed }

func (x *thing) look() (*Finding, error) {
	row := x.row
	x.looks++
	if x.during != nil {
		x.during(x.looks)
	}
	if row == x.folder {
		return nil, nil
	}
	return &Finding{Kind: CounterDrift}, nil
}

func TestOperationUnderWayIsNoFinding(t *testing.T) {
	for name, during := range map[string]func(x *thing, look int){
		"it has begun, and ends": func(x *thing, look int) {
			x.claimed, x.folder = look == 1, 1
			if look > 1 {
				x.row = 1
			}
		},
		"it begins and ends within a look": func(x *thing, look int) {
			if look < 5 {
				x.row, x.folder = look, look
			}
		},
		"it begins and is undone within a look": func(x *thing, look int) { x.folder = look % 2 },
	} {
		x := &thing{}
		x.during = func(look int) { during(x, look) }
		if found, err := Confirm(t.Context(), x.state, x.look); found != nil || err != nil {
			t.Errorf("%s: found was %v, %v", name, found, err)
		}
	}
}

func TestDamageIsFoundOnceNothingIsUnderWay(t *testing.T) {
	x := &thing{folder: 1, claimed: true}
	x.during = func(look int) { x.claimed = false }
	if found, err := Confirm(t.Context(), x.state, x.look); found == nil || err != nil {
		t.Errorf("found was %v, %v", found, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x.during, x.claimed = nil, true
	if found, err := Confirm(ctx, x.state, x.look); found != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("whoever left got %v, %v", found, err)
	}
}

func TestWhatIsChangedAllTheTimeIsNotTold(t *testing.T) {
	x := &thing{folder: -1}
	x.during = func(look int) { x.row = look }
	if found, err := Confirm(t.Context(), x.state, x.look); found != nil || err != nil {
		t.Errorf("found was %v, %v", found, err)
	}
}
